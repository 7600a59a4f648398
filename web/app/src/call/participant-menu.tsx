import type { Participant } from "@muster/sdk";
import { Button } from "../ui/button.tsx";
import { type CallView, key, theCall } from "./state.ts";

/** What those who moderate can do about somebody. */
export function ParticipantMenu({ view, who, close }: { view: CallView; who: Participant; close: () => void }) {
  const { user, device } = who;
  const run = (what: () => Promise<void> | undefined) => async () => {
    await what();
    close();
  };
  const holds = view.floor.holder && key(view.floor.holder) === key(who);
  return (
    <div class="talk-menu tile-menu" role="group" aria-label={who.name} onKeyDown={(e) => e.key === "Escape" && close()}>
      {!who.micMuted && <Button data-testid="call-mute-other" action={run(() => theCall()?.muteOther({ user, device }))}>Mute</Button>}
      {holds && <Button data-testid="call-take-floor" action={run(() => theCall()?.takeFloor({ user, device }))}>Take the floor away</Button>}
      <Button kind="danger" data-testid="call-kick" action={run(() => theCall()?.kick({ user, device }))}>Put out of the call</Button>
    </div>
  );
}
