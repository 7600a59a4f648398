import { hue, initials } from "../lib/people.ts";

export function Avatar({ user, name, me, dim, picture }: { user: string; name: string; me?: boolean; dim?: boolean; picture?: string | undefined }) {
  const shown = picture && own(picture);
  if (shown) return <img class={`avatar${dim ? " dim" : ""}`} src={shown} alt="" width="38" height="38" loading="lazy" />;
  return (
    <span class={`avatar${dim ? " dim" : ""}`} style={me ? undefined : { background: hue(user) }} aria-hidden="true">
      {initials(name)}
    </span>
  );
}

/** Pictures of other places are not fetched: they would learn who looks at whom. Ours are at every node. */
function own(url: string): string | undefined {
  return /^(?:https?:\/\/[^/]+)?(\/api\/v1\/pictures\/[^?#]+)/.exec(url)?.[1];
}
