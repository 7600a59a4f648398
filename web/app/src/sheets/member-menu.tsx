import { useLocation } from "preact-iso";
import { change, contacts } from "../contacts.ts";
import { ask, block, takeBackAsk } from "../granting.ts";
import { api, ban, kick, setRole, transfer } from "../live.ts";
import { me, myRole, type Role } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { toast } from "../ui/toast.tsx";
import { asksOut, sharers } from "../whereabouts.ts";
import { PersonMenu } from "./person-menu.tsx";

const rank: Record<Role, number> = { owner: 2, admin: 1, member: 0 };

/** What one can do with a member, and an owner or admin with one of lower rank. */
export function MemberMenu({ user, name, role }: { user: string; name: string; role: Role }) {
  const { route } = useLocation();
  if (user === me.value) return null;
  const asked = asksOut.value.find((a) => a.to.userId === user);
  const shares = sharers.value.some((s) => s.userId === user);
  const request = async () => {
    await ask(user);
    toast(`${name} is asked, and may say no.`);
  };
  const friend = contacts.value?.friends.some((f) => f.userId === user);
  const befriend = async () => {
    await change(() => api.friends.request(user));
    toast(contacts.value?.friends.some((f) => f.userId === user) ? `${name} is your friend now.` : `${name} is asked to be your friend.`);
  };
  return (
    <PersonMenu user={user} name={name} block={() => block(user)}>
      {(act) => (
        <>
          <Button data-testid={`write-${name}`} action={async () => route(`/c/${(await api.conversations.open(user)).room}`)}>Write to them</Button>
          {asked
            ? <Button action={act(() => takeBackAsk(asked.askId))}>Take back the question</Button>
            : !shares && <Button data-testid={`ask-${name}`} action={act(request)}>Ask where they are</Button>}
          {!friend && <Button data-testid={`befriend-${name}`} action={act(befriend)}>Ask to be friends</Button>}
          {myRole.value === "owner" && rank[myRole.value] > rank[role] && (
            <>
              <Button action={act(() => setRole(user, role === "admin" ? "member" : "admin"))}>{role === "admin" ? "No longer admin" : "Make admin"}</Button>
              <Button action={act(() => transfer(user))}>Make owner</Button>
            </>
          )}
          {rank[myRole.value] > rank[role] && <Button kind="danger" data-testid={`kick-${name}`} action={act(() => kick(user))}>Remove</Button>}
          {rank[myRole.value] > rank[role] && <Button kind="danger" data-testid={`ban-${name}`} action={act(() => ban(user))}>Remove for good</Button>}
        </>
      )}
    </PersonMenu>
  );
}
