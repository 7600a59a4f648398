import type { CallSource, Participant } from "@muster/sdk";
import { useEffect, useRef, useState } from "preact/hooks";
import { Avatar } from "../ui/avatar.tsx";
import { Icon } from "../ui/icons.tsx";
import { ParticipantMenu } from "./participant-menu.tsx";
import { Picture } from "./picture.tsx";
import { type CallView, key, theCall } from "./state.ts";

interface Props {
  view: CallView;
  who: Participant;
  source: Extract<CallSource, "camera" | "screen">;
  moderates: boolean;
}

/** Somebody in the call: their picture, or who they are. */
export function Tile({ view, who, source, moderates }: Props) {
  const [menu, setMenu] = useState(false);
  const self = key(who) === view.self;
  const screen = source === "screen";
  const on = screen ? who.screen : who.camera;
  const c = theCall();
  const track = on ? (self ? c?.sending(source) : c?.media(who, source)) : undefined;
  const speaks = !screen && view.speakers.has(key(who));
  const muted = self ? view.micMuted : who.micMuted;
  const deaf = self ? view.speakerMuted : who.speakerMuted;
  const ref = useShown(self ? undefined : (height) => theCall()?.want(who, source, height), key(who), source);
  const state = [
    muted && !screen && "muted", deaf && !screen && "hears nobody", who.suspended && "connection lost", who.music && !screen && "shares music", speaks && "speaks",
  ].filter(Boolean).join(", ");
  return (
    <li ref={ref} class={`tile${speaks ? " speaks" : ""}${screen ? " screen" : ""}${who.suspended ? " away" : ""}`}
      data-testid={`tile-${who.name}${screen ? "-screen" : ""}`} data-muted={muted} data-speaks={speaks}>
      {track ? <Picture track={track} mirror={self && !screen} label={screen ? `Screen of ${who.name}` : `Camera of ${who.name}`} /> : (
        <Avatar user={who.user} name={who.name} me={self} dim={who.suspended} />
      )}
      <span class="tile-name">
        {!screen && muted && <Icon name="micOff" />}
        {!screen && deaf && <Icon name="speakerOff" />}
        {!screen && who.music && <Icon name="music" />}
        <span>{screen ? `${who.name}'s screen` : self ? `${who.name} (you)` : who.name}</span>
        {state && <span class="sr">{state}</span>}
      </span>
      {moderates && !self && !screen && (
        <button type="button" class="icon-button tile-more" aria-label={`More about ${who.name}`} aria-expanded={menu} data-testid={`more-${who.name}`} onClick={() => setMenu(!menu)}><Icon name="more" /></button>
      )}
      {menu && <ParticipantMenu view={view} who={who} close={() => setMenu(false)} />}
    </li>
  );
}

/** Tells how high something is shown, in pixels of the screen; 0 while it is out of sight or gone. */
function useShown(tell: ((height: number) => void) | undefined, ...of: unknown[]) {
  const ref = useRef<HTMLLIElement>(null);
  useEffect(() => {
    const node = ref.current;
    if (!node || !tell) return;
    let seen = false;
    let height = 0;
    const say = () => tell(seen && !document.hidden ? height * devicePixelRatio : 0);
    const sight = new IntersectionObserver(([e]) => {
      seen = e?.isIntersecting ?? false;
      say();
    });
    const size = new ResizeObserver(([e]) => {
      height = e?.contentRect.height ?? 0;
      say();
    });
    sight.observe(node);
    size.observe(node);
    document.addEventListener("visibilitychange", say);
    return () => {
      sight.disconnect();
      size.disconnect();
      document.removeEventListener("visibilitychange", say);
      tell(0);
    };
  }, of);
  return ref;
}
