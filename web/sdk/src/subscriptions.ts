// The HTTP side of subscriptions: which plans there are, and the user's own.

import { toMoney } from "./expenses.js";
import { type Call, type Json, list, object, text, when } from "./http.js";
import type { Money } from "./money.js";

/** Switches (true) and numbers, by name. */
export type Features = Readonly<Record<string, unknown>>;

export interface Plan {
  readonly planId: string;
  readonly name: string;
  /** That a period has. */
  readonly months: number;
  /** For who never had any. */
  readonly trialDays: number;
  /** Of a period, in each currency that it can be paid in; none: it costs nothing. */
  readonly prices: readonly Money[];
  readonly features: Features;
}

export type SubscriptionStatus = "free" | "incomplete" | "trialing" | "active" | "past_due" | "canceled" | "expired";

export interface Subscription {
  readonly planId: string;
  readonly status: SubscriptionStatus;
  /** The end of what is paid for, or was. */
  readonly expiry?: Date;
  readonly price: Money | undefined;
  readonly months: number;
  /** Another period follows. */
  readonly renews: boolean;
  /** The plan from the next period on; empty: the same. */
  readonly nextPlanId: string;
  readonly paymentMethod: string;
  /** The payment that is under way; empty: none. */
  readonly paymentId: string;
  /** When a payment that failed is tried again. */
  readonly nextAttempt?: Date;
}

export class SubscriptionsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** What can be subscribed to, the cheapest first. */
  async plans(): Promise<Plan[]> {
    return list((await this.#call("GET", "/plans")).plans).map((p) => ({
      planId: text(p.plan_id), name: text(p.name), months: Number(p.months ?? 0), trialDays: Number(p.trial_days ?? 0), prices: list(p.prices).map(toMoney), features: object(p.features),
    }));
  }

  /** What the user has subscribed to, and may do for it. */
  async get(): Promise<Subscription & { readonly features: Features }> {
    const r = await this.#call("GET", "/users/subscription");
    return { ...toSubscription(r.subscription), features: object(r.features) };
  }

  /** Subscribes to a plan, or changes it, or how it is paid. What becomes of the payment comes as the notice `payment.updated`. */
  async subscribe(planId: string, paymentMethod: string, currency?: string): Promise<Subscription> {
    const body = { plan_id: planId, payment_method: paymentMethod, ...(currency && { currency }) };
    return toSubscription((await this.#call("POST", "/users/subscription", { body })).subscription);
  }

  /** Ends it with what is paid for. */
  async cancel(): Promise<Subscription> {
    return toSubscription((await this.#call("DELETE", "/users/subscription")).subscription);
  }

  /** Has one that was canceled go on, before it has ended. */
  async resume(): Promise<Subscription> {
    return toSubscription((await this.#call("POST", "/users/subscription/resume")).subscription);
  }
}

function toSubscription(v: unknown): Subscription {
  const s: Json = object(v);
  return {
    planId: text(s.plan_id),
    status: (text(s.subscription_status) || "free") as SubscriptionStatus,
    ...when("expiry", s.subscription_expiry),
    price: s.price ? toMoney(s.price) : undefined,
    months: Number(s.months ?? 0),
    renews: s.renews === true,
    nextPlanId: text(s.next_plan_id),
    paymentMethod: text(s.payment_method),
    paymentId: text(s.payment_id),
    ...when("nextAttempt", s.next_attempt),
  };
}
