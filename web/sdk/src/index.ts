// Muster in the browser: the HTTP API, and the realtime session with its rooms.

export type { GoogleStart, SecurityEvent, SignedIn } from "./account.js";
export { Api, groupRoom } from "./api.js";
export type {
  ApiOptions,
  Audience,
  Banned,
  DataExport,
  Group,
  GroupMember,
  GroupSummary,
  Invite,
  InviteOptions,
  NewGroup,
  OpenInvite,
  PresenceSettings,
  Profile,
  Role,
  UserPresence,
} from "./api.js";
export type { TransportChoice } from "./connector.js";
export { tabDevice } from "./device.js";
export type { Discoverability, FoundUser, Friend, FriendRequest, PublicGroup, PublicUser, Relation } from "./friends.js";
export { MusterError, type Code } from "./errors.js";
export type {
  Ask,
  Fence,
  FenceShape,
  Grant,
  GrantAudience,
  GrantTerms,
  GroupFences,
  LocationApi,
  NamedUser,
  PastCrossing,
  Precision,
  Receipt,
  ShareLink,
  SharingPerson,
  SharingState,
  TrackRange,
  TrackState,
  Whereabouts,
  Zone,
} from "./location.js";
export type { Notification, NotificationSettings } from "./notifications.js";
export { Room, type FixEvent, type PresenceEvent, type RoomEvents, type UpdateEvent } from "./room.js";
export type { SessionApi, SessionEvents, SessionOptions } from "./options.js";
export { Session } from "./session.js";
export type { SessionState, Status } from "./status.js";
export { memoryTokens, webTokens, type Tokens, type TokenStore } from "./tokens.js";
export type * from "./types.js";
export { View, type ViewCounts, type ViewEvents } from "./view.js";
