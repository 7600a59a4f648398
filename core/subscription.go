package core

// SubscriptionUpdated goes to a user, under the key of UserID.Key, with a
// SubscriptionEvent: what they have subscribed to, or what becomes of it, has changed.
const SubscriptionUpdated = "subscription.updated"

// SubscriptionEvent is what an event about a subscription says.
type SubscriptionEvent struct {
	Version uint64 `json:"version"`
}
