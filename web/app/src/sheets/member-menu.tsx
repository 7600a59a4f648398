import { useState } from "preact/hooks";
import { kick } from "../live.ts";
import { me, myRole, type Role } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";

const rank: Record<Role, number> = { owner: 2, admin: 1, member: 0 };

/** What an owner or admin can do with a member of lower rank: remove them, asked twice. */
export function MemberMenu({ user, name, role }: { user: string; name: string; role: Role }) {
  const [asked, setAsked] = useState(false);
  if (user === me.value || rank[myRole.value] <= rank[role]) return null;
  if (!asked) {
    return (
      <button type="button" class="icon-button small" aria-label={`Remove ${name} from the group…`} data-testid={`kick-${name}`}
        onClick={() => setAsked(true)}>
        <Icon name="more" />
      </button>
    );
  }
  return (
    <span class="confirm">
      <Button kind="danger" data-testid="kick-confirm" action={() => kick(user)}>Remove</Button>
      <Button kind="quiet" action={() => setAsked(false)}>Keep</Button>
    </span>
  );
}
