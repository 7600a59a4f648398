import { useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { Devices } from "./devices.tsx";
import { MusicMenu } from "./music.tsx";
import { toggleCamera, toggleMic, toggleScreen, toggleSpeaker } from "./sending.ts";
import { type CallView, leaveCall, theCall } from "./state.ts";

type Menu = "music" | "devices" | "call";

/** What one can do about oneself in a call, and about the call. */
export function Controls({ view: v, moderates }: { view: CallView; moderates: boolean }) {
  const [menu, setMenu] = useState<Menu>();
  const toggle = (m: Menu) => setMenu(menu === m ? undefined : m);
  const close = () => setMenu(undefined);
  return (
    <div class="call-controls" role="group" aria-label="Your part in the call" onKeyDown={(e) => e.key === "Escape" && close()}>
      {!v.pushToTalk && (
        <Button kind="icon" aria-label="Microphone" aria-pressed={!v.micMuted} data-testid="call-mic" action={toggleMic}><Icon name={v.micMuted ? "micOff" : "mic"} /></Button>
      )}
      <Button kind="icon" aria-label="Hear the others" aria-pressed={!v.speakerMuted} data-testid="call-speaker" action={toggleSpeaker}><Icon name={v.speakerMuted ? "speakerOff" : "speaker"} /></Button>
      <Button kind="icon" aria-label="Camera" aria-pressed={v.camera} data-testid="call-camera" action={toggleCamera}><Icon name={v.camera ? "camera" : "cameraOff"} /></Button>
      {"getDisplayMedia" in navigator.mediaDevices && (
        <Button kind="icon" aria-label="Share the screen" aria-pressed={v.screen} data-testid="call-screen" action={toggleScreen}><Icon name="screen" /></Button>
      )}
      <button type="button" class="icon-button" aria-label="Share music" aria-pressed={v.music} aria-expanded={menu === "music"} data-testid="call-music" onClick={() => toggle("music")}><Icon name="music" /></button>
      <button type="button" class="icon-button" aria-label="Devices" aria-expanded={menu === "devices"} data-testid="call-devices" onClick={() => toggle("devices")}><Icon name="gear" /></button>
      {moderates && (
        <button type="button" class="icon-button" aria-label="This call" aria-expanded={menu === "call"} data-testid="call-more" onClick={() => toggle("call")}><Icon name="more" /></button>
      )}
      <Button kind="danger" class="call-leave" aria-label="Leave the call" data-testid="call-leave" action={leaveCall}><Icon name="hangup" /></Button>
      {menu === "music" && <MusicMenu playing={v.music} close={close} />}
      {menu === "devices" && <Devices />}
      {menu === "call" && <CallMenu view={v} close={close} />}
    </div>
  );
}

/** For those who moderate. Ending it for everybody takes a second tap. */
function CallMenu({ view, close }: { view: CallView; close: () => void }) {
  const [sure, setSure] = useState(false);
  const lock = async () => {
    await theCall()?.lock(!view.locked);
    close();
  };
  return (
    <div class="call-menu" role="group" aria-label="This call">
      <Button data-testid="call-lock" action={lock}><Icon name="lock" /> {view.locked ? "Let others join" : "Let nobody else join"}</Button>
      {sure ? <Button kind="danger" data-testid="call-end-sure" action={() => theCall()?.end()}>Yes, end it for everybody</Button>
        : <Button data-testid="call-end" action={() => setSure(true)}>End the call for everybody</Button>}
    </div>
  );
}
