import { useState } from "preact/hooks";
import { kick, setRole, transfer } from "../live.ts";
import { me, myRole, type Role } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";

const rank: Record<Role, number> = { owner: 2, admin: 1, member: 0 };

/** What an owner or admin can do with a member of lower rank. Nothing happens by the first tap. */
export function MemberMenu({ user, name, role }: { user: string; name: string; role: Role }) {
  const [open, setOpen] = useState(false);
  if (user === me.value || rank[myRole.value] <= rank[role]) return null;
  const act = (action: () => Promise<void>) => async () => {
    await action();
    setOpen(false);
  };
  return (
    <>
      <button type="button" class="icon-button small" aria-label={`More about ${name}`} aria-expanded={open} data-testid={`menu-${name}`}
        onClick={() => setOpen(!open)}>
        <Icon name="more" />
      </button>
      {open && (
        <div class="member-actions" role="group" aria-label={name}>
          {myRole.value === "owner" && (
            <>
              <Button action={act(() => setRole(user, role === "admin" ? "member" : "admin"))}>{role === "admin" ? "No longer admin" : "Make admin"}</Button>
              <Button action={act(() => transfer(user))}>Make owner</Button>
            </>
          )}
          <Button kind="danger" data-testid={`kick-${name}`} action={act(() => kick(user))}>Remove</Button>
        </div>
      )}
    </>
  );
}
