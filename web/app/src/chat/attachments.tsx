import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Attachment } from "@muster/sdk";
import { api } from "../live.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { formatSize } from "./files.ts";

/** The address of a file, at whichever node this page came from. */
async function linkTo(room: string, a: Attachment, thumbnail = false): Promise<string> {
  const { url } = await api.conversations.attachment(room, a.id, { thumbnail });
  const { pathname, search } = new URL(url, location.href);
  return pathname + search;
}

export function Attachments({ room, files }: { room: string; files: readonly Attachment[] }) {
  return (
    <ul class="attachments" aria-label="Files">
      {files.map((a) => (
        <li key={a.id} data-testid="attachment" data-type={a.type}>
          {a.type.startsWith("image/") && a.width ? <Picture room={room} file={a} /> : playable(a) ? <Player room={room} file={a} /> : <File room={room} file={a} />}
        </li>
      ))}
    </ul>
  );
}

function File({ room, file: a }: { room: string; file: Attachment }) {
  return (
    <Button class="file" aria-label={`Download ${a.name}, ${formatSize(a.size)}`} action={async () => location.assign(await linkTo(room, a))}>
      <Icon name="file" /><span class="grow break">{a.name}<small>{formatSize(a.size)}</small></span>
    </Button>
  );
}

const playable = (a: Attachment) => /^(audio|video)\//.test(a.type) && document.createElement(a.type.startsWith("video/") ? "video" : "audio").canPlayType(a.type) !== "";

/**
 * Sound or a film, with the browser's controls. Its link ends after some minutes: what
 * is not there by then is asked for by a fresh one, and goes on where it was.
 */
function Player({ room, file: a }: { room: string; file: Attachment }) {
  const [src, setSrc] = useState<string>();
  const [problem, setProblem] = useState(false);
  const going = useRef({ at: 0, on: false, since: 0, again: false });
  const media = useRef<HTMLMediaElement | null>(null);
  const load = () => {
    going.current.since = Date.now();
    return linkTo(room, a).then((link) => {
      setSrc(link);
      if (media.current?.getAttribute("src") === link) media.current.load(); // links of one moment are the same
    }, () => setProblem(true));
  };
  useEffect(() => {
    void load();
    return () => { // what plays on, or is still loaded, after its message has gone
      media.current?.pause();
      media.current?.removeAttribute("src");
      media.current?.load();
    };
  }, [a.id]);
  const failed = () => {
    const el = media.current;
    // A fresh link that doesn't work twice is no matter of its age, nor of the network's moment.
    const fresh = Date.now() - going.current.since < freshMs;
    if (fresh && going.current.again) return setProblem(true);
    going.current.again = fresh;
    if (el && el.currentTime > 0) going.current = { ...going.current, at: el.currentTime, on: !el.paused };
    void load();
  };
  const props = {
    ref: (el: HTMLMediaElement | null) => void (el && (media.current = el)), controls: true, preload: "metadata", "aria-label": a.name, "data-testid": "player", src,
    onError: failed,
    onLoadedMetadata: () => {
      const { at, on } = going.current;
      if (!media.current || at === 0) return;
      media.current.currentTime = at;
      if (on) void media.current.play().catch(() => {}); // the browser may want a click
    },
  } as const;
  if (problem) return <File room={room} file={a} />;
  return (
    <figure class="player">
      {a.type.startsWith("video/") ? <video playsInline {...props} /> : <audio {...props} />}
      <figcaption class="small break">{a.name}</figcaption>
    </figure>
  );
}

/** A link that was just made is good. */
const freshMs = 60_000;
const widest = 240;

/** A small picture, which opens the whole one. Its place is kept before it is there. */
function Picture({ room, file: a }: { room: string; file: Attachment }) {
  const [small, setSmall] = useState<string>();
  const [whole, setWhole] = useState<string>();
  const [problem, setProblem] = useState(false);
  const fresh = useRef(true); // a link ends after some minutes: once more then
  const load = () => linkTo(room, a, a.thumbnail).then(setSmall, () => setProblem(true));
  useEffect(() => void load(), [a.id]);
  const scale = Math.min(1, widest / (a.width ?? widest), widest / (a.height ?? widest));
  const [width, height] = [Math.max(44, Math.round((a.width ?? widest) * scale)), Math.max(44, Math.round((a.height ?? widest) * scale))];
  const failed = () => {
    if (fresh.current) void load();
    else setProblem(true);
    fresh.current = false;
  };
  if (problem) return <p class="small muted">The picture {a.name} can't be loaded.</p>;
  return (
    <>
      <Button class="picture" aria-label={`Open the picture ${a.name}`} action={async () => setWhole(await linkTo(room, a))}>
        {small ? <img src={small} alt={a.name} width={width} height={height} onError={failed} data-testid="picture" />
          : <svg width={width} height={height} aria-hidden="true" />}
      </Button>
      {whole && <Lightbox src={whole} name={a.name} close={() => setWhole(undefined)} />}
    </>
  );
}

function Lightbox({ src, name, close }: { src: string; name: string; close: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="lightbox" aria-label={name} onClose={close} onClick={(e) => e.target === e.currentTarget && dialog.current?.close()}>
      <img src={src} alt={name} data-testid="whole-picture" />
      <div class="actions">
        <a class="button plain" href={src} download={name}>Save</a>
        <button type="button" class="button primary" onClick={() => dialog.current?.close()}>Close</button>
      </div>
    </dialog>
  );
}
