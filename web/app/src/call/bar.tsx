import { useState } from "preact/hooks";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { callView, joinCall, ongoing, startCall } from "./state.ts";
import { namesOf } from "./words.ts";

interface Props {
  room: string;
  /** What the room is called, and its page. */
  title: string;
  home: string;
}

/** A call that goes on in the room, to be joined. */
export function CallBar({ room, title, home }: Props) {
  const c = ongoing.value.get(room);
  if (!c || callView.value?.id === c.id) return null;
  const names = [...new Map(c.participants?.map((p) => [p.user, p.name])).values()];
  return (
    <section class="call-bar" aria-label="Call" data-testid="call-bar">
      <span class="grow"><strong>A call goes on</strong>{names.length > 0 && <small>{namesOf(names)}</small>}</span>
      <Button kind="primary" data-testid="join-call" action={() => joinCall(c.id, { room, title, home })}><Icon name="phone" /> Join call</Button>
    </section>
  );
}

/** Starts a call of one kind or the other; where one goes on, joins it. */
export function StartCall({ room, title, home }: Props) {
  const [open, setOpen] = useState(false);
  const c = ongoing.value.get(room);
  if (callView.value?.room === room) return null;
  if (c) {
    return (
      <Button kind="icon" aria-label="Join the call" data-testid="start-call" action={() => joinCall(c.id, { room, title, home })}><Icon name="phone" /></Button>
    );
  }
  const start = (pushToTalk: boolean) => async () => {
    await startCall({ room, title, home, type: "video", pushToTalk });
    setOpen(false);
  };
  return (
    <>
      <button type="button" class="icon-button" aria-label="Start a call" aria-expanded={open} data-testid="start-call" onClick={() => setOpen(!open)}><Icon name="phone" /></button>
      {open && (
        <div class="talk-menu" role="group" aria-label="Start a call" onKeyDown={(e) => e.key === "Escape" && setOpen(false)}>
          <Button kind="primary" data-testid="start-all" action={start(false)}>Start a call</Button>
          <Button data-testid="start-ptt" action={start(true)}>Push to talk</Button>
          <p class="small">With push to talk, one speaks at a time.</p>
        </div>
      )}
    </>
  );
}
