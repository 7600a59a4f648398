import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { Banned } from "@muster/sdk";
import { until } from "../lib/age.ts";
import { inviteLink } from "../lib/invite.ts";
import { api, createInvite, leaveGroup, loadInvites, revokeInvite, setPublic } from "../live.ts";
import { group, type Invite, invites, myRole, now } from "../state.ts";
import { Button, copy } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";
import { Places } from "./places.tsx";
import { showQR } from "./qr.tsx";

const lifetimes = [["1 hour", 3600], ["1 day", 86_400], ["7 days", 604_800], ["30 days", 2_592_000]] as const;

/** The group: its places, its invites, and the way out. */
export function GroupSheet() {
  const { route } = useLocation();
  const [asked, setAsked] = useState(false);
  const owner = myRole.value === "owner";
  const others = (group.value?.members.length ?? 0) > 1;
  useEffect(() => void attempt(loadInvites), [group.value?.id]);
  const leave = async () => {
    await leaveGroup();
    route("/");
  };
  return (
    <>
      {group.value?.description && <p class="lead small">{group.value.description}</p>}
      <Places />
      <Invites />
      {myRole.value !== "member" && <Doors />}
      <h2 class="section">Leave</h2>
      {owner && others ? (
        <p class="small" data-testid="owner-stays">You own this group. Make somebody else the owner first: under People, beside their name.</p>
      ) : asked ? (
        <div class="actions">
          <Button kind="danger" data-testid="leave-confirm" action={leave}>{owner ? "Leave and delete the group" : "Leave the group"}</Button>
          <Button kind="quiet" action={() => setAsked(false)}>Stay</Button>
        </div>
      ) : (
        <Button class="wide-button" data-testid="leave-group" action={() => setAsked(true)}><Icon name="door" /> Leave {group.value?.name}</Button>
      )}
    </>
  );
}

/** Who gets in, beside those with an invite, and who does not. For owner and admins. */
function Doors() {
  const open = group.value?.settings["visibility"] === "public";
  const id = group.value?.id;
  const [bans, setBans] = useState<readonly Banned[]>([]);
  const load = async () => {
    if (id !== undefined) setBans(await api.bans(id));
  };
  useEffect(() => void attempt(load), [id, group.value?.members.length]);
  return (
    <>
      <h2 class="section">Doors</h2>
      <div class="setting">
        <span id="set-public">Public<small>In the directory: everybody may find and join this group.</small></span>
        <Button kind="switch" role="switch" aria-checked={open} aria-labelledby="set-public" data-testid="public-switch" action={() => setPublic(!open)}>
          <span class="knob" />
        </Button>
      </div>
      {bans.length > 0 && (
        <ul class="items" aria-label="Not let in">
          {bans.map((b) => (
            <li key={b.userId} data-testid="banned">
              <span class="grow break"><strong>{b.username}</strong><small>Not let in{b.reason && `: ${b.reason}`}</small></span>
              <Button kind="quiet" action={async () => { if (id !== undefined) await api.unban(id, b.userId); await load(); }}>Let in</Button>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function Invites() {
  const [lifetime, setLifetime] = useState<number>(604_800);
  const [once, setOnce] = useState(false);
  const all = invites.value;
  return (
    <>
      <h2 class="section">Invites</h2>
      {all?.length === 0 && (
        <p class="empty small">{myRole.value === "member" ? "You have no invite open." : "No invite is open. Nobody can join until somebody makes one."}</p>
      )}
      <ul class="invites" aria-label="Open invites">{all?.map((i) => <InviteRow key={i.code} invite={i} />)}</ul>
      <div class="new-invite">
        <label>
          Valid for
          <select value={lifetime} data-testid="invite-lifetime" onChange={(e) => setLifetime(Number(e.currentTarget.value))}>
            {lifetimes.map(([label, seconds]) => <option key={seconds} value={seconds}>{label}</option>)}
          </select>
        </label>
        <label>
          Can be used
          <select value={once ? "once" : "any"} onChange={(e) => setOnce(e.currentTarget.value === "once")}>
            <option value="any">without limit</option>
            <option value="once">once</option>
          </select>
        </label>
        <Button kind="primary" data-testid="new-invite" action={() => createInvite(lifetime, once ? 1 : undefined)}>New invite</Button>
      </div>
    </>
  );
}

function InviteRow({ invite }: { invite: Invite }) {
  const link = inviteLink(invite.code, location.origin);
  const uses = invite.maxUses === undefined ? `used ${invite.uses}×` : `used ${invite.uses} of ${invite.maxUses}`;
  return (
    <li data-testid="invite-item">
      <span class="grow">
        <code>{invite.code}</code>
        <small>ends {until(invite.expires, now.value)} · {uses}</small>
      </span>
      <Button kind="icon" aria-label={`Copy the link of ${invite.code}`} action={() => copy(link, "Link")}><Icon name="copy" /></Button>
      <Button kind="icon" aria-label={`QR code of ${invite.code}`} action={() => showQR(link)}><Icon name="qr" /></Button>
      <Button kind="icon" aria-label={`Revoke ${invite.code}`} data-testid="revoke-invite" action={() => revokeInvite(invite.code)}><Icon name="close" /></Button>
    </li>
  );
}
