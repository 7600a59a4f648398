import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { callView, joinCall, ongoing, startCall } from "./state.ts";
import { namesOf } from "./words.ts";

interface Props {
  room: string;
  /** What the room is called, and its page. */
  title: string;
  home: string;
  /** Names of people who may be in the call. */
  nameOf: (user: string) => string;
}

/** A call that goes on in the room, to be joined. */
export function CallBar({ room, title, home, nameOf }: Props) {
  const c = ongoing.value.get(room);
  if (!c || callView.value?.id === c.id) return null;
  const names = [...new Set(c.participants)].map(nameOf);
  return (
    <section class="call-bar" aria-label="Call" data-testid="call-bar">
      <span class="grow"><strong>A call goes on</strong><small>{names.length === 0 ? "Nobody is in it right now" : namesOf(names)}</small></span>
      <Button kind="primary" data-testid="join-call" action={() => joinCall(c.id, { room, title, home })}><Icon name="phone" /> Join call</Button>
    </section>
  );
}

/** Starts a call; where one goes on, joins it. */
export function StartCall({ room, title, home }: Omit<Props, "nameOf">) {
  if (callView.value?.room === room) return null;
  return (
    <Button kind="icon" aria-label={ongoing.value.has(room) ? "Join the call" : "Start a call"} data-testid="start-call"
      action={() => startCall({ room, title, home, type: "video" })}><Icon name="phone" /></Button>
  );
}
