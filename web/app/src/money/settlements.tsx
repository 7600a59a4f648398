import { useState } from "preact/hooks";
import { type Payment, paymentOver, type Settlement, type SettlementStatus } from "@muster/sdk";
import { api } from "../live.ts";
import { clock } from "../lib/age.ts";
import { me, myRole, now } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { CardPicker, usualCard } from "./card.tsx";
import { confirmAtBank, paymentLine } from "./payments.ts";
import { change, money, moreSettlements, named, nameOf, payments, settlements } from "./state.ts";

const words: Record<SettlementStatus, string> = { recorded: "Paid", pending: "Waits for its payment", settled: "Paid by card", failed: "Not paid", undone: "Taken back" };

/** What was paid between people, and what became of it. */
export function Settlements() {
  const all = settlements.value?.all;
  if (!all) return null;
  return (
    <>
      {all.length === 0 && <p class="empty">Nobody has paid anybody back yet.</p>}
      <ul class="items">{all.map((s) => <SettlementRow key={s.settlementId} settlement={s} />)}</ul>
      {settlements.value?.cursor !== undefined && <Button action={moreSettlements}>Earlier ones</Button>}
    </>
  );
}

function SettlementRow({ settlement: s }: { settlement: Settlement }) {
  const [sure, setSure] = useState(false);
  const involved = s.createdBy === me.value || s.from === me.value || s.to === me.value || myRole.value !== "member";
  const p = payments.value.find((x) => x.kind === "settlement" && x.ref === s.settlementId); // the latest
  const status = s.kind === "conversion" && s.status === "recorded" ? "Converted" : words[s.status];
  const undo = async () => {
    await change((g) => api.debts.undo(g, s.settlementId));
    setSure(false);
  };
  return (
    <li class="expense" data-testid="settlement" data-status={s.status} data-kind={s.kind}>
      <div class="row still">
        <span class="grow break">
          {s.kind === "conversion" ? `What ${named(s.from)} ${s.from === me.value ? "owe" : "owes"} ${named(s.to)}` : `${nameOf(s.from)} to ${named(s.to)}`}
          <small>{status}{s.refunded > 0 && s.status === "settled" && `, ${money({ amount: s.refunded, currency: s.money.currency })} of it paid back`} · {s.createdAt && clock(s.createdAt.getTime(), now.value)}{s.note && ` · ${s.note}`}</small>
        </span>
        <span class="right num"><strong>{money(s.money)}</strong>{s.into && <small>is {money(s.into)}, at {s.rate}</small>}</span>
      </div>
      {p && <PaymentLine payment={p} />}
      {s.from === me.value && s.method === "card" && (s.status === "failed" || (s.status === "pending" && (!p || paymentOver(p.status)))) && <PayAgain settlement={s} />}
      {s.status === "settled" && s.to === me.value && p?.status === "succeeded" && (
        <div class="actions"><Button kind="quiet" data-testid="refund" action={() => change(() => api.payments.refund(p.paymentId))}>Pay it back</Button></div>
      )}
      {(s.status === "recorded" || (s.status === "pending" && !p)) && involved && !sure && <div class="actions"><Button kind="quiet" data-testid="undo" action={() => setSure(true)}>Undo</Button></div>}
      {sure && (
        <div class="card" role="group" aria-label="Undo">
          <p class="small">It is owed again then, as if it had not been {s.kind === "conversion" ? "converted" : "paid"}.</p>
          <div class="actions">
            <Button kind="danger" data-testid="undo-sure" action={undo}>Undo it</Button>
            <Button kind="quiet" action={() => setSure(false)}>Keep it</Button>
          </div>
        </div>
      )}
    </li>
  );
}

/** How a payment goes, as the gateway tells. */
export function PaymentLine({ payment: p }: { payment: Payment }) {
  const mine = p.userId === me.value;
  return (
    <div class="payment" role="status" data-testid="payment" data-status={p.status}>
      <span class="small grow break">{paymentLine(p)}</span>
      {mine && p.status === "requires_action" && <Button kind="primary" data-testid="confirm" action={() => confirmAtBank(p.paymentId)}>Confirm it</Button>}
      {mine && !paymentOver(p.status) && <Button kind="quiet" data-testid="cancel-payment" action={() => change(() => api.payments.cancel(p.paymentId))}>Cancel</Button>}
    </div>
  );
}

function PayAgain({ settlement: s }: { settlement: Settlement }) {
  const [card, setCard] = useState(usualCard);
  return (
    <div class="form card">
      <CardPicker value={card} pick={setCard} />
      <Button kind="primary" data-testid="pay-again" action={() => change(async (g) => {
        // One that has failed stays as it was: another one is paid.
        const open = s.status === "pending" ? s : await api.debts.settle(g, { from: s.from, to: s.to, money: s.money, method: "card" });
        await api.payments.settle(g, open.settlementId, card);
      })}>Try it by this one</Button>
    </div>
  );
}
