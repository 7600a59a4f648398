import { signal } from "@preact/signals";
import type { Payment, PaymentStatus } from "@muster/sdk";
import { api } from "../live.ts";
import { heardMoney } from "./state.ts";

/** Counts what was told of the user's payments: who shows one reads it again. */
export const paymentVersion = signal(0);

/** A notice came, or some may have been missed. */
export function heardPayment(): void {
  paymentVersion.value++;
  heardMoney();
}

/** Opens the page on which a payer does what their bank wants, in a tab of its own. */
export async function confirmAtBank(paymentId: string): Promise<void> {
  const { action } = await api.payments.get(paymentId);
  if (!action?.url) throw new Error("There is nothing to confirm any more.");
  window.open(action.url, "_blank", "noopener");
}

export const paymentWords: Record<PaymentStatus, string> = {
  created: "The gateway is being asked",
  requires_action: "Your bank wants you to confirm it",
  processing: "The bank is at it",
  succeeded: "Paid",
  failed: "Not paid",
  canceled: "Canceled",
  refunded: "Paid back",
};

/** "Not paid: card declined". */
export const paymentLine = (p: Payment): string => `${paymentWords[p.status]}${p.reason && `: ${p.reason.replaceAll("_", " ")}`}`;
