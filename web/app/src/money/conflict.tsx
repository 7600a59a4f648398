import { useEffect, useRef } from "preact/hooks";
import type { ExpenseChanged, ExpenseDraft } from "@muster/sdk";
import { differences } from "../lib/spend.ts";
import { Button } from "../ui/button.tsx";
import { money, named, nameOf } from "./state.ts";

/** Somebody changed the expense meanwhile: both sides, to choose from. */
export function Conflict({ clash, mine, theirs }: { clash: ExpenseChanged; mine: (d: ExpenseDraft) => Promise<unknown>; theirs: () => void }) {
  const section = useRef<HTMLElement>(null);
  useEffect(() => section.current?.focus(), []);
  const { present, sent } = clash;
  if (!sent) return null;
  const rows = differences(present, sent, money, nameOf);
  return (
    <section ref={section} class="card" role="alertdialog" tabIndex={-1} aria-labelledby="clash-title" data-testid="conflict">
      <h3 id="clash-title">{present.deleted ? `${nameOf(present.changedBy)} deleted it meanwhile` : `${nameOf(present.changedBy)} changed it meanwhile`}</h3>
      {!present.deleted && rows.length === 0 && <p class="small">To the same as you.</p>}
      {!present.deleted && rows.length > 0 && (
        <table class="sums sides">
          <thead><tr><th scope="col">What</th><th scope="col">Now</th><th scope="col">Yours</th></tr></thead>
          <tbody>
            {rows.map((r) => (
              <tr key={r.what}><th scope="row">{r.what}</th><td class="break" data-testid="clash-present">{r.present || "–"}</td><td class="break" data-testid="clash-sent">{r.sent || "–"}</td></tr>
            ))}
          </tbody>
        </table>
      )}
      <div class="actions">
        {!present.deleted && <Button kind="primary" data-testid="clash-mine" action={() => mine(sent)}>Save mine over it</Button>}
        <Button data-testid="clash-theirs" action={theirs}>{present.deleted ? "Close" : `Keep ${present.changedBy && named(present.changedBy) === "you" ? "what is there" : "theirs"}`}</Button>
      </div>
    </section>
  );
}
