import { signal } from "@preact/signals";
import type { Discoverability, Friend, FriendRequest } from "@muster/sdk";
import { api } from "./live.ts";

// Friends and requests to be friends.

export interface Contacts {
  readonly friends: readonly Friend[];
  readonly received: readonly FriendRequest[];
  readonly sent: readonly FriendRequest[];
}

export const contacts = signal<Contacts | undefined>(undefined);
export const discoverability = signal<Discoverability | undefined>(undefined);

export async function loadContacts(): Promise<void> {
  const [friends, received, sent] = await Promise.all([api.friends.friends(), api.friends.requests("received"), api.friends.requests("sent")]);
  contacts.value = { friends, received, sent };
}

/** Runs a change of who knows whom, and reads what came of it. */
export async function change(action: () => Promise<unknown>): Promise<void> {
  await action();
  await loadContacts();
}

export async function loadDiscoverability(): Promise<void> {
  discoverability.value = await api.friends.discoverability();
}

export async function setDiscoverability(d: Partial<Discoverability>): Promise<void> {
  const now = discoverability.peek();
  if (now) discoverability.value = await api.friends.setDiscoverability({ ...now, ...d });
}
