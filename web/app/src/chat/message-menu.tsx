import { useEffect, useRef, useState } from "preact/hooks";
import type { ReportReason } from "@muster/sdk";
import { api } from "../live.ts";
import { me, type Message } from "../state.ts";
import { Button, copy } from "../ui/button.tsx";
import { toast } from "../ui/toast.tsx";
import { answering, deleteForEveryone, deleteForMe, editing, pin, react, type Talk } from "./talk.ts";

export const emojis = ["👍", "❤️", "😂", "😮", "😢", "🙏"] as const;

const reasons: readonly (readonly [ReportReason, string])[] = [
  ["spam", "Spam"], ["harassment", "Harassment"], ["hate", "Hate"], ["sexual", "Sexual"], ["violence", "Violence"],
  ["child_safety", "Child safety"], ["impersonation", "Pretends to be somebody"], ["other", "Something else"],
];

/** What one can do with a message. Escape closes it; it takes the focus when it opens. */
export function MessageMenu({ message: m, talk, close, showEdits }: { message: Message; talk: Talk; close: () => void; showEdits?: () => void }) {
  const [step, setStep] = useState<"all" | "delete" | "report">("all");
  const menu = useRef<HTMLDivElement>(null);
  useEffect(() => menu.current?.querySelector("button")?.focus(), [step]);
  const mine = m.sender === me.value;
  const gone = Boolean(m.deleted);
  const done = (f: () => Promise<unknown> | unknown) => async () => {
    await f();
    close();
  };
  const write = (what: typeof answering) => done(() => {
    [answering.value, editing.value] = [undefined, undefined];
    what.value = m;
  });
  const report = (reason: ReportReason) => done(async () => {
    await api.reports.report({ room: talk.room, number: m.number }, reason);
    toast("Reported. Those who run this will look at it.");
  });
  return (
    <div ref={menu} class="message-menu" role="group" aria-label="What to do with this message" data-testid="message-menu"
      onKeyDown={(e) => {
        e.stopPropagation();
        if (e.key === "Escape") close();
      }}>
      {step === "all" && (
        <>
          {!gone && !talk.closed && (
            <div class="emojis">
              {emojis.map((e) => {
                const on = m.reactions?.some((r) => r.emoji === e && r.users.includes(me.value)) ?? false;
                return <Button key={e} class="emoji" aria-pressed={on} aria-label={`React with ${e}`} data-testid={`react-${e}`} action={done(() => react(m, e, !on))}>{e}</Button>;
              })}
            </div>
          )}
          {!gone && !talk.closed && <Button data-testid="reply" action={write(answering)}>Reply</Button>}
          {!gone && !talk.closed && mine && <Button data-testid="edit" action={write(editing)}>Edit</Button>}
          {!gone && m.editedAt !== undefined && showEdits && <Button data-testid="show-edits" action={done(showEdits)}>What it said before</Button>}
          {!gone && m.body !== "" && <Button action={done(() => copy(m.body, "Message"))}>Copy</Button>}
          {!gone && !talk.closed && <Button data-testid="pin" action={done(() => pin(m, !m.pinned))}>{m.pinned ? "Unpin" : "Pin"}</Button>}
          <Button data-testid="delete" action={() => setStep("delete")}>Delete</Button>
          {!gone && !mine && <Button data-testid="report" action={() => setStep("report")}>Report</Button>}
        </>
      )}
      {step === "delete" && (
        <>
          <Button data-testid="delete-for-me" action={done(() => deleteForMe(m))}>Delete for me</Button>
          {!gone && (mine || talk.moderates) && <Button kind="danger" data-testid="delete-for-everyone" action={done(() => deleteForEveryone(m))}>Delete for everyone</Button>}
        </>
      )}
      {step === "report" && reasons.map(([reason, label]) => <Button key={reason} data-testid={`report-${reason}`} action={report(reason)}>{label}</Button>)}
      <Button kind="quiet" action={close}>Close</Button>
    </div>
  );
}
