import { Fragment } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { joined, messages, now, olderMessages } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { attempt } from "../ui/toast.tsx";
import { Line } from "./line.tsx";
import { loadOlder, markRead, nameOf, readBefore, sought, writing } from "./talk.ts";
import { dayOf, writingLine } from "./text.ts";

const NEAR = 40; // px: who is as near as that to the end stays there
const LOAD_AT = 200; // px from the top

/**
 * What was said. It stays at the newest message while that is in sight, and keeps its
 * place when older ones come above. Arrow keys go from message to message, Enter opens
 * what can be done with one.
 */
export function Log() {
  const log = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const height = useRef(0);
  const loading = useRef(false);
  const [menu, setMenu] = useState<string>();
  const all = messages.value;
  const first = all[0]?.number;

  useLayoutEffect(() => {
    const el = log.current;
    if (!el) return;
    if (atEnd.current) el.scrollTop = el.scrollHeight;
    height.current = el.scrollHeight;
  }, [all]);
  useLayoutEffect(() => {
    const el = log.current;
    if (el && !atEnd.current) el.scrollTop += el.scrollHeight - height.current;
    if (el) height.current = el.scrollHeight;
  }, [first]);
  useEffect(() => {
    const look = () => void (atEnd.current && markRead());
    look();
    document.addEventListener("visibilitychange", look);
    return () => document.removeEventListener("visibilitychange", look);
  }, [all]);
  // Pictures take their place late.
  useEffect(() => {
    const el = log.current;
    if (!el) return;
    const grown = new ResizeObserver(() => void (atEnd.current && (el.scrollTop = el.scrollHeight)));
    grown.observe(el);
    return () => grown.disconnect();
  }, []);
  useEffect(() => {
    const target = sought.value && log.current?.querySelector<HTMLElement>(`[data-number="${sought.value.number}"]`);
    if (!target) return;
    atEnd.current = false;
    target.scrollIntoView({ block: "center" });
    target.focus({ preventScroll: true });
    target.classList.add("found");
    const timer = setTimeout(() => target.classList.remove("found"), 2000);
    return () => clearTimeout(timer);
  }, [sought.value]);

  const more = async () => {
    if (loading.current || !olderMessages.value) return;
    loading.current = true;
    await attempt(loadOlder);
    loading.current = false;
  };
  const go = (e: KeyboardEvent) => {
    const lines = [...(log.current?.querySelectorAll<HTMLElement>(".message") ?? [])];
    const at = lines.findIndex((l) => l.contains(document.activeElement));
    const to = e.key === "ArrowUp" ? (at < 0 ? lines.length - 1 : at - 1) : e.key === "ArrowDown" ? (at < 0 ? undefined : at + 1)
      : e.key === "Home" ? 0 : e.key === "End" ? lines.length - 1 : undefined;
    if (to !== undefined && lines[to]) {
      e.preventDefault();
      lines[to].focus();
      lines[to].scrollIntoView({ block: "nearest" });
    } else if (e.key === "Enter" && document.activeElement === lines[at]) {
      e.preventDefault();
      lines[at]?.querySelector<HTMLButtonElement>(".message-more")?.click();
    } else if (e.key === "Escape") {
      e.stopPropagation();
      document.querySelector<HTMLElement>("[data-testid=chat-input]")?.focus();
    }
  };
  const close = (key: string) => {
    setMenu(undefined);
    log.current?.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"] .message`)?.focus();
  };

  const news = all.find((m) => readBefore.value > 0 && m.number > readBefore.value && m.status === undefined && m.state === "stored")?.key;
  return (
    <>
      <div ref={log} class="log" role="log" aria-live="polite" aria-label="Messages" tabIndex={0} onKeyDown={go}
        onScroll={(e) => {
          const el = e.currentTarget;
          atEnd.current = el.scrollHeight - el.scrollTop - el.clientHeight < NEAR;
          if (atEnd.current) markRead();
          if (el.scrollTop < LOAD_AT && el.scrollHeight > el.clientHeight) void more();
        }}>
        {olderMessages.value && <Button kind="quiet" class="older" action={more}>Earlier messages</Button>}
        {joined.value && all.length === 0 && !olderMessages.value && <p class="empty">No messages yet. Say hello.</p>}
        {all.map((m, i) => {
          const day = dayOf(m.sentAt, now.value);
          const before = all[i - 1];
          return (
            <Fragment key={m.key}>
              {(!before || dayOf(before.sentAt, now.value) !== day) && <h3 class="day">{day}</h3>}
              {m.key === news && <p class="new-line">New</p>}
              <div class="message-place" data-key={m.key}>
                <Line message={m} before={before} menu={menu === m.key} setMenu={(open) => (open ? setMenu(m.key) : close(m.key))} />
              </div>
            </Fragment>
          );
        })}
      </div>
      <p class="writing" role="status" data-testid="writing">{writingLine(writing.value.map(nameOf))}</p>
    </>
  );
}
