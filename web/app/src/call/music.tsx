import { useRef } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { attempt } from "../ui/toast.tsx";
import { shareFile, shareTab, stopMusic } from "./sending.ts";

/** Shares music beside the voice: a file, or what another tab plays. */
export function MusicMenu({ playing, close }: { playing: boolean; close: () => void }) {
  const file = useRef<HTMLInputElement>(null);
  const pick = async (f: File | undefined) => {
    if (f && (await attempt(() => shareFile(f)))) close();
  };
  return (
    <div class="call-menu" role="group" aria-label="Music">
      {playing ? <Button data-testid="music-stop" action={() => { stopMusic(); close(); }}>Stop the music</Button> : (
        <>
          <p class="small">All hear it in stereo, as it is.</p>
          <Button data-testid="music-file" action={() => file.current?.click()}>A file…</Button>
          <input ref={file} type="file" accept="audio/*" hidden aria-label="Music file" data-testid="music-input" onChange={(e) => void pick(e.currentTarget.files?.[0])} />
          {"getDisplayMedia" in navigator.mediaDevices && <Button data-testid="music-tab" action={async () => { await shareTab(); close(); }}>Another tab…</Button>}
        </>
      )}
    </div>
  );
}
