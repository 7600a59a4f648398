import { useState } from "preact/hooks";
import type { Ask } from "@muster/sdk";
import { answerAsk, declineAsk, durations } from "../granting.ts";
import { ago } from "../lib/age.ts";
import { type Level, levels } from "../lib/precision.ts";
import { now } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Segments } from "../ui/segments.tsx";
import { asksIn } from "../whereabouts.ts";

/** Who wants to know where one is. Nothing is told until it is answered, and a no needs no reason. */
export function AsksOfMe() {
  const all = asksIn.value;
  if (all.length === 0) return null;
  return (
    <>
      <h2 class="section">Asked</h2>
      <ul class="asks" aria-label="Asked where you are">{all.map((a) => <AskCard key={a.askId} ask={a} />)}</ul>
    </>
  );
}

function AskCard({ ask: a }: { ask: Ask }) {
  const [level, setLevel] = useState<Level>(levels.find(([l]) => l === a.precision)?.[0] ?? "exact");
  const [life, setLife] = useState("900");
  const { userId, username } = a.from;
  return (
    <li class="ask" data-testid="ask">
      <div class="row still">
        <Avatar user={userId} name={username} />
        <span class="grow">
          <strong>{username} asks where you are</strong>
          <small>{a.message ? `“${a.message}” · ` : ""}{ago(a.createdAt.getTime(), now.value)}</small>
        </span>
      </div>
      <Segments stacked label="Tell them" value={level} options={levels} pick={setLevel} />
      <Segments stacked label="How long" value={life} options={durations.map(([n, s]) => [String(s), n] as const)} pick={setLife} />
      <div class="actions">
        <Button kind="primary" data-testid="ask-accept" action={() => answerAsk(a.askId, { precision: level, expiresIn: Number(life) })}>Share with {username}</Button>
        <Button kind="quiet" data-testid="ask-decline" action={() => declineAsk(a.askId)}>No</Button>
      </div>
    </li>
  );
}
