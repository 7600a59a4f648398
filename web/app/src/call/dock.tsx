import { useLocation } from "preact-iso";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { toggleMic } from "./sending.ts";
import { callView, leaveCall } from "./state.ts";
import { standing } from "./words.ts";

/** The call goes on while another page is open: the way back to it. */
export function CallDock() {
  const { path } = useLocation();
  const v = callView.value;
  if (!v || path === v.home || path === `/c/${v.room}`) return null;
  return (
    <aside class="call-dock" aria-label="Call" data-testid="call-dock">
      <a class="grow" href={v.home}><strong>{v.title || "Call"}</strong><small>{standing(v)}</small></a>
      {!v.pushToTalk && <Button kind="icon" aria-label="Microphone" aria-pressed={!v.micMuted} action={toggleMic}><Icon name={v.micMuted ? "micOff" : "mic"} /></Button>}
      <Button kind="danger" aria-label="Leave the call" action={leaveCall}><Icon name="hangup" /></Button>
    </aside>
  );
}
