import { useEffect, useState } from "preact/hooks";
import { type Features, formatMoney, MusterError, type Payment, paymentOver, type Plan, type Subscription, type SubscriptionStatus } from "@muster/sdk";
import { api, loadAccount } from "../live.ts";
import { CardPicker, usualCard } from "../money/card.tsx";
import { confirmAtBank, paymentLine, paymentVersion } from "../money/payments.ts";
import { Button } from "../ui/button.tsx";
import { attempt } from "../ui/toast.tsx";

const date = (d: Date | undefined) => d?.toLocaleDateString(undefined, { day: "numeric", month: "long", year: "numeric" }) ?? "";

/** The plan of the user, and the others that there are. */
export function SubscriptionSection() {
  const [plans, setPlans] = useState<readonly Plan[]>([]);
  const [mine, setMine] = useState<Subscription>();
  const [payment, setPayment] = useState<Payment>();
  const [wanted, setWanted] = useState<string>();
  const [sure, setSure] = useState(false);
  const load = async () => {
    const [all, s] = await Promise.all([api.subscriptions.plans(), api.subscriptions.get()]);
    setPlans(all);
    setMine(s);
    setPayment(s.paymentId ? await api.payments.get(s.paymentId) : undefined);
  };
  // A notice says that there is news. Where nothing is sold there is nothing to see.
  useEffect(() => void attempt(() => load().catch((err: unknown) => {
    if (!(err instanceof MusterError) || err.status !== 404) throw err;
  })), [paymentVersion.value]);
  const change = (action: () => Promise<unknown>) => async () => {
    await action();
    setWanted(undefined);
    setSure(false);
    await load();
    await loadAccount();
  };
  if (!mine) return null;
  const plan = plans.find((p) => p.planId === mine.planId);
  const lives = mine.status === "trialing" || mine.status === "active" || mine.status === "past_due";
  return (
    <section class="form" aria-label="Plan" data-testid="subscription" data-status={mine.status} data-plan={mine.planId}>
      <h2 class="section">Plan</h2>
      <p role="status"><strong>{plan?.name ?? mine.planId}</strong> <span class="muted" data-testid="subscription-line">{line(mine, plans)}</span></p>
      {payment && !paymentOver(payment.status) && (
        <div class="payment" role="status">
          <span class="small grow">{paymentLine(payment)}</span>
          {payment.status === "requires_action" && <Button kind="primary" data-testid="confirm" action={() => confirmAtBank(payment.paymentId)}>Confirm it</Button>}
        </div>
      )}
      <ul class="plans">
        {plans.map((p) => (
          <li key={p.planId} data-testid={`plan-${p.planId}`} data-mine={p.planId === mine.planId}>
            <div class="setting">
              <span><strong>{p.name}</strong><small>{priceLine(p, mine)}</small><small>{featureLine(p.features)}</small></span>
              {p.planId === mine.planId ? <span class="tag accent">yours</span>
                : p.prices.length > 0 && wanted !== p.planId && <Button data-testid={`choose-${p.planId}`} action={() => setWanted(p.planId)}>Choose</Button>}
            </div>
            {wanted === p.planId && <Buy plan={p} mine={mine} buy={(method, currency) => change(() => api.subscriptions.subscribe(p.planId, method, currency))} cancel={() => setWanted(undefined)} />}
          </li>
        ))}
      </ul>
      {lives && mine.renews && !sure && <Button kind="quiet" data-testid="cancel-subscription" action={() => setSure(true)}>End the subscription</Button>}
      {lives && mine.renews && sure && (
        <div class="card" role="group" aria-label="End the subscription">
          <p class="small">You keep it until {date(mine.expiry)}. Nothing is taken after that.</p>
          <div class="actions">
            <Button kind="danger" data-testid="cancel-sure" action={change(() => api.subscriptions.cancel())}>End it</Button>
            <Button kind="quiet" action={() => setSure(false)}>Keep it</Button>
          </div>
        </div>
      )}
      {mine.status === "canceled" && <Button data-testid="resume-subscription" action={change(() => api.subscriptions.resume())}>Have it go on</Button>}
    </section>
  );
}

function Buy({ plan, mine, buy, cancel }: { plan: Plan; mine: Subscription; buy: (method: string, currency: string) => () => Promise<void>; cancel: () => void }) {
  const [card, setCard] = useState(usualCard);
  const [currency, setCurrency] = useState(plan.prices.find((p) => p.currency === mine.price?.currency)?.currency ?? plan.prices[0]?.currency ?? "");
  const price = plan.prices.find((p) => p.currency === currency);
  return (
    <div class="form">
      {plan.prices.length > 1 && !mine.price && (
        <div class="field">
          <label for="plan-currency">In</label>
          <select id="plan-currency" value={currency} onChange={(e) => setCurrency(e.currentTarget.value)}>{plan.prices.map((p) => <option key={p.currency} value={p.currency}>{formatMoney(p)}</option>)}</select>
        </div>
      )}
      <CardPicker value={card} pick={setCard} />
      <div class="actions">
        <Button kind="primary" data-testid="buy" action={buy(card, currency)}>{plan.trialDays > 0 && mine.status === "free" ? `Try it for ${plan.trialDays} days` : price ? `Pay ${formatMoney(price)}` : "Choose it"}</Button>
        <Button kind="quiet" action={cancel}>Not now</Button>
      </div>
    </div>
  );
}

const statusWords: Record<SubscriptionStatus, (s: Subscription) => string> = {
  free: () => "costs nothing",
  incomplete: () => "is being paid for",
  trialing: (s) => `to try until ${date(s.expiry)}${s.price ? `, then ${formatMoney(s.price)}` : ""}`,
  active: (s) => `${s.renews ? "renews on" : "ends on"} ${date(s.expiry)}${s.renews && s.price ? ` for ${formatMoney(s.price)}` : ""}`,
  past_due: (s) => `could not be paid${s.nextAttempt ? `; tried again on ${date(s.nextAttempt)}` : ""}`,
  canceled: (s) => `ends on ${date(s.expiry)}`,
  expired: (s) => `what you had ended on ${date(s.expiry)}`,
};

function line(s: Subscription, plans: readonly Plan[]): string {
  const next = s.nextPlanId && s.nextPlanId !== s.planId ? `; then ${plans.find((p) => p.planId === s.nextPlanId)?.name ?? s.nextPlanId}` : "";
  return statusWords[s.status](s) + next;
}

function priceLine(p: Plan, mine: Subscription): string {
  const price = p.prices.find((x) => x.currency === mine.price?.currency) ?? p.prices[0];
  if (!price) return "Costs nothing";
  return `${formatMoney(price)} ${p.months === 1 ? "a month" : p.months === 12 ? "a year" : `for ${p.months} months`}${p.trialDays > 0 ? `, the first ${p.trialDays} days for nothing` : ""}`;
}

/** What a plan has, as far as this page knows it by name. */
function featureLine(f: Features): string {
  const parts: string[] = [];
  if (typeof f["upload_bytes"] === "number") parts.push(`${Math.round(f["upload_bytes"] / 2 ** 30)} GB of files`);
  if (typeof f["group_members"] === "number") parts.push(`groups of ${f["group_members"]}`);
  return parts.join(" · ");
}
