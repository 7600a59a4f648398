import { useEffect } from "preact/hooks";
import type { Receipt } from "@muster/sdk";
import { loadReceipts } from "../granting.ts";
import { clock } from "../lib/age.ts";
import { precisionWords } from "../lib/precision.ts";
import { units } from "../settings.ts";
import { group, now } from "../state.ts";
import { Avatar } from "../ui/avatar.tsx";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { liveLinks, receipts } from "../whereabouts.ts";

const ways: Record<string, string> = {
  group: "asked for the group's positions", proximity: "asked who of the group is near", nearby: "looked around", people: "looked who shares with them", link: "opened your link", map: "watched the map",
};

/** Who could see where one was, when, and how precisely. */
export function Receipts() {
  useEffect(() => void attempt(loadReceipts), [liveLinks.value.length]);
  const all = receipts.value;
  return (
    <section class="form" aria-label="Who could see you">
      <h2 class="section with-button">
        <span class="grow">Who could see you, last 30 days</span>
        <Button kind="quiet" data-testid="reload-receipts" action={loadReceipts}>Look again</Button>
      </h2>
      <p class="small muted">The last minute may be missing.</p>
      {all?.length === 0 && <p class="empty small">Nobody so far.</p>}
      {all && all.length > 0 && (
        <ul class="items" aria-label="Who could see you">
          {all.map((r) => <Row key={`${r.reader.id} ${r.how} ${r.room} ${r.first.getTime()} ${r.precision}`} receipt={r} />)}
        </ul>
      )}
    </section>
  );
}

function Row({ receipt: r }: { receipt: Receipt }) {
  const name = r.reader.kind === "link" ? "Whoever has your link" : r.reader.name || "Somebody who is gone";
  return (
    <li class="receipt" data-testid="receipt" data-reader={r.reader.name} data-how={r.how} data-precision={r.precision}>
      {r.reader.kind === "link" ? <span class="row-icon"><Icon name="link" /></span> : <Avatar user={r.reader.id} name={name} />}
      <span class="grow">
        <strong>{name}</strong>
        <small>{precisionWords(r.precision, units.value)}</small>
        <small>{how(r)} · {span(r, now.value)}{r.reads > 1 && r.how !== "room" ? ` · ${r.reads} times` : ""}</small>
      </span>
    </li>
  );
}

function how(r: Receipt): string {
  if (r.how !== "room") return ways[r.how] ?? r.how;
  if (r.room === `group:${group.value?.id}`) return "here in the group";
  return r.room?.startsWith("direct:") ? "between you two" : "in a group";
}

function span(r: Receipt, t: number): string {
  const [first, last] = [clock(r.first.getTime(), t), clock(r.last.getTime(), t)];
  return first === last ? first : `${first} – ${last}`;
}
