import type { MessageStatus } from "@muster/sdk";

const words: Record<MessageStatus, string> = { sent: "Sent", delivered: "Delivered", read: "Read" };

/** How far one's own message got: one tick, two, or two in colour; in words for whoever can't see that. */
export function Ticks({ status }: { status: MessageStatus }) {
  return (
    <span class={`ticks ${status}`} data-testid="ticks" data-status={status} title={words[status]}>
      <svg viewBox="0 0 22 14" width="18" height="12" aria-hidden="true" focusable="false">
        <path d="M1.5 7.5 5.5 11.5 14 3" />
        {status !== "sent" && <path d="M9.5 10 11 11.5 19.5 3" />}
      </svg>
      <span class="sr">{words[status]}</span>
    </span>
  );
}
