import { hue, initials } from "../lib/people.ts";

export function Avatar({ user, name, me, dim }: { user: string; name: string; me?: boolean; dim?: boolean }) {
  return (
    <span class={`avatar${dim ? " dim" : ""}`} style={me ? undefined : { background: hue(user) }} aria-hidden="true">
      {initials(name)}
    </span>
  );
}
