import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { me } from "../state.ts";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { Mentions } from "./mentions.tsx";
import { files, formatSize, mostFiles, pick, takeFiles, tryAgain, unpick } from "./files.ts";
import { answering, editing, nameOf, saveEdit, sendMessage, talk, talkers, typing } from "./talk.ts";
import { brief, mentionAt, mentionsIn } from "./text.ts";

const LONGEST = 4000; // characters of a message
const TALLEST = 140; // px

/** Where a message is written: Enter sends, Shift and Enter begin a new line, Escape takes back what it answers or edits. */
export function Composer() {
  const [body, setBody] = useState("");
  const [at, setAt] = useState<{ from: number; typed: string } | undefined>();
  const [chosen, setChosen] = useState(0);
  const kept = useRef(""); // what was being written when an edit began
  const input = useRef<HTMLTextAreaElement>(null);
  const picker = useRef<HTMLInputElement>(null);
  const list = useId();
  const edited = editing.value;
  const found = at && talkers.value.filter((p) => p.user !== me.value && p.name.toLowerCase().startsWith(at.typed.toLowerCase())).slice(0, 6);
  const open = found !== undefined && found.length > 0;
  const busy = files.value.some((f) => f.id === "" && f.problem === "");

  useEffect(() => {
    if (edited) {
      kept.current = body;
      setBody(edited.body);
    } else setBody(kept.current);
    if (edited ?? answering.value) input.current?.focus();
  }, [edited?.key]);
  useEffect(() => void (answering.value && input.current?.focus()), [answering.value?.key]);
  useLayoutEffect(() => {
    const el = input.current;
    if (!el) return;
    el.style.height = "auto";
    el.style.height = `${Math.min(el.scrollHeight + 2, TALLEST)}px`;
  }, [body]);

  const write = (text: string, caret: number) => {
    setBody(text);
    setAt(mentionAt(text, caret));
    setChosen(0);
    typing(text.trim() !== "");
  };
  const mention = (name: string) => {
    const el = input.current;
    if (!at || !el) return;
    const before = `${body.slice(0, at.from)}@${name} `;
    setBody(before + body.slice(el.selectionStart));
    setAt(undefined);
    requestAnimationFrame(() => {
      el.focus();
      el.setSelectionRange(before.length, before.length);
    });
  };
  const send = async (event: Event) => {
    event.preventDefault();
    const text = body.trim();
    if (busy || (text === "" && (edited || files.value.length === 0))) return;
    const mentions = mentionsIn(text, talkers.value);
    if (edited) {
      if (await attempt(() => saveEdit(edited, text, mentions))) editing.value = undefined;
      return;
    }
    setBody("");
    kept.current = "";
    setAt(undefined);
    sendMessage({ body: text, mentions, attachments: takeFiles() });
    input.current?.focus();
  };
  const key = (e: KeyboardEvent) => {
    if (open && at) {
      const step = e.key === "ArrowDown" ? 1 : e.key === "ArrowUp" ? -1 : 0;
      if (step !== 0) {
        e.preventDefault();
        return setChosen((chosen + step + found.length) % found.length);
      }
      if (e.key === "Enter" || e.key === "Tab") {
        e.preventDefault();
        return mention(found[chosen]!.name);
      }
      if (e.key === "Escape") {
        e.stopPropagation();
        return setAt(undefined);
      }
    }
    if (e.key === "Enter" && !e.shiftKey && !e.isComposing) return void send(e);
    if (e.key === "Escape" && (edited ?? answering.value)) {
      e.stopPropagation();
      editing.value = undefined;
      answering.value = undefined;
    }
    if (e.key === "ArrowUp" && body === "" && !edited) {
      e.preventDefault();
      document.querySelector<HTMLElement>(".log .message-place:last-child .message")?.focus();
    }
  };

  if (talk.value?.closed) return <p class="composer-closed small" role="status">Nobody can write here any more.</p>;
  return (
    <form class="composer-area" onSubmit={(e) => void send(e)}
      onDragOver={(e) => e.preventDefault()}
      onDrop={(e) => {
        e.preventDefault();
        pick(e.dataTransfer?.files ?? []);
      }}>
      {(edited ?? answering.value) && <About />}
      {files.value.length > 0 && <Files />}
      {open && <Mentions id={list} people={found} chosen={chosen} pick={mention} />}
      <div class="composer">
        <input ref={picker} type="file" multiple hidden data-testid="file-input" aria-label="Files" tabIndex={-1}
          onChange={(e) => {
            pick(e.currentTarget.files ?? []);
            e.currentTarget.value = "";
          }} />
        {!edited && (
          <button type="button" class="icon-button" aria-label="Add files" data-testid="add-files" disabled={files.value.length >= mostFiles} onClick={() => picker.current?.click()}>
            <Icon name="clip" />
          </button>
        )}
        <textarea ref={input} rows={1} aria-label="Message" placeholder="Message" data-testid="chat-input" autocomplete="off" maxLength={LONGEST} value={body}
          enterkeyhint="send" aria-controls={open ? list : undefined} aria-autocomplete="list"
          aria-activedescendant={open ? `${list}-${chosen}` : undefined}
          onInput={(e) => write(e.currentTarget.value, e.currentTarget.selectionStart)} onKeyDown={key} onBlur={() => typing(false)}
          onPaste={(e) => {
            const pasted = e.clipboardData?.files;
            if (!pasted || pasted.length === 0) return;
            e.preventDefault();
            pick(pasted);
          }} />
        <button type="submit" class="icon-button primary" aria-label={edited ? "Save" : "Send"} data-testid="chat-send" disabled={busy}>
          <Icon name="send" />
        </button>
      </div>
    </form>
  );
}

/** What the message answers, or is in place of. */
function About() {
  const m = editing.value ?? answering.value;
  if (!m) return null;
  return (
    <div class="about" data-testid="about">
      <span class="grow break"><strong>{editing.value ? "Edit" : `Reply to ${nameOf(m.sender)}`}</strong><small>{brief(m)}</small></span>
      <button type="button" class="icon-button" aria-label={editing.value ? "Don't edit" : "Don't reply"} onClick={() => [answering.value, editing.value] = [undefined, undefined]}>
        <Icon name="close" />
      </button>
    </div>
  );
}

function Files() {
  return (
    <ul class="picked" aria-label="Files to send">
      {files.value.map((f) => (
        <li key={f.key} data-testid="picked" data-ready={f.id !== ""}>
          <span class="grow break">
            {f.file.name}
            <small role={f.problem ? "alert" : undefined} class={f.problem ? "failed" : undefined}>
              {f.problem || (f.id === "" ? `${Math.floor(f.part * 100)} % of ${formatSize(f.file.size)}` : formatSize(f.file.size))}
            </small>
            {f.id === "" && f.problem === "" && <progress max={1} value={f.part} aria-label={`Upload of ${f.file.name}`} />}
          </span>
          {f.problem !== "" && <button type="button" class="button quiet" onClick={() => tryAgain(f.key)}>Try again</button>}
          <button type="button" class="icon-button small" aria-label={`Don't send ${f.file.name}`} onClick={() => unpick(f.key)}><Icon name="close" /></button>
        </li>
      ))}
    </ul>
  );
}
