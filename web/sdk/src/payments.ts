// The HTTP side of payments by a gateway. Data of cards never come here: a method is
// what the gateway calls it.

import { toMoney } from "./expenses.js";
import { type Call, cursorIn, id, type Json, list, object, query, text, when } from "./http.js";
import type { Money } from "./money.js";

export type PaymentStatus = "created" | "requires_action" | "processing" | "succeeded" | "failed" | "canceled" | "refunded";

export interface Payment {
  readonly paymentId: string;
  /** Who pays. */
  readonly userId: string;
  /** Who gets it; empty: whoever runs the deployment. */
  readonly to: string;
  readonly kind: "settlement" | "subscription";
  /** The settlement's id, or the subscription's charge. */
  readonly ref: string;
  readonly money: Money;
  readonly status: PaymentStatus;
  /** Why it failed, in the gateway's word, such as card_declined. */
  readonly reason: string;
  /** Minor units that went back. */
  readonly refunded: number;
  readonly gateway: string;
  readonly createdAt?: Date;
  readonly updatedAt?: Date;
}

export interface Refund {
  readonly refundId: string;
  readonly money: Money;
  readonly status: "pending" | "succeeded" | "failed";
  readonly reason: string;
  readonly createdAt?: Date;
}

export interface PaymentDetails extends Payment {
  readonly refunds: readonly Refund[];
  readonly history: readonly { readonly status: PaymentStatus; readonly refunded: number; readonly reason: string; readonly source: string; readonly at?: Date }[];
  /** What the payer has to do for their bank, while status is requires_action. */
  readonly action: { readonly url: string; readonly clientSecret: string } | undefined;
}

/** Nothing will become of it any more by itself. */
export const paymentOver = (s: PaymentStatus): boolean => s === "succeeded" || s === "failed" || s === "canceled" || s === "refunded";

export class PaymentsApi {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** Pays a settlement of the method card. What becomes of it comes as the notice `payment.updated`. */
  async settle(groupId: string, settlementId: string, method: string): Promise<Payment> {
    return toPayment(await this.#call("POST", `/groups/${id(groupId)}/settlements/${id(settlementId)}/payment`, { body: { payment_method: method } }));
  }

  /** A page of what the user paid, or was paid, the latest first; `cursor` of the page before. */
  async list(o: { cursor?: string; limit?: number } = {}): Promise<{ payments: Payment[]; cursor?: string }> {
    let next: string | undefined;
    const r = await this.#call("GET", `/payments?${query({ ...o })}`, { onNext: (path) => (next = path) });
    return { payments: list(r.payments).map(toPayment), ...cursorIn(next) };
  }

  async get(paymentId: string): Promise<PaymentDetails> {
    const r = await this.#call("GET", `/payments/${id(paymentId)}`);
    const action = object(r.action);
    return {
      ...toPayment(r),
      refunds: list(r.refunds).map(toRefund),
      history: list(r.history).map((c) => ({
        status: text(c.status) as PaymentStatus, refunded: Number(c.refunded ?? 0), reason: text(c.reason), source: text(c.source), ...when("at", c.at),
      })),
      action: r.action ? { url: text(action.url), clientSecret: text(action.client_secret) } : undefined,
    };
  }

  /** Whether that was in time its status says. */
  async cancel(paymentId: string): Promise<Payment> {
    return toPayment(await this.#call("POST", `/payments/${id(paymentId)}/cancel`));
  }

  /** Gives back what the user was paid, or a part of it in minor units. */
  async refund(paymentId: string, amount?: number): Promise<Refund> {
    return toRefund(await this.#call("POST", `/payments/${id(paymentId)}/refund`, { body: { ...(amount !== undefined && { amount }) } }));
  }
}

function toPayment(p: Json): Payment {
  return {
    paymentId: text(p.payment_id),
    userId: text(p.user_id),
    to: text(p.to),
    kind: text(p.kind) as Payment["kind"],
    ref: text(p.ref),
    money: toMoney(p.money),
    status: text(p.status) as PaymentStatus,
    reason: text(p.reason),
    refunded: Number(p.refunded ?? 0),
    gateway: text(p.gateway),
    ...when("createdAt", p.created_at),
    ...when("updatedAt", p.updated_at),
  };
}

const toRefund = (r: Json): Refund => ({
  refundId: text(r.refund_id), money: toMoney(r.money), status: text(r.status) as Refund["status"], reason: text(r.reason), ...when("createdAt", r.created_at),
});
