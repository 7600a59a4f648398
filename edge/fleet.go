package edge

import "strings"

// A fleet is many subjects (vehicles, parcels, scooters) whose fixes come through
// gateways that its owner trusts. Where users are named by a string, its gateways
// are FleetUser and its subjects Subject, so that positions of subjects go the same
// way as those of people: through the choke point, with the grants of the fleet.

const fleetPrefix = "fleet:"

// FleetUser names a fleet's gateways.
func FleetUser(fleet string) string { return fleetPrefix + fleet }

// Subject names a subject of a fleet.
func Subject(fleet, subject string) string { return fleetPrefix + fleet + ":" + subject }

// FleetOf returns the fleet of a subject or a gateway; "" for a user. It does not
// allocate.
func FleetOf(user string) string {
	rest, ok := strings.CutPrefix(user, fleetPrefix)
	if !ok {
		return ""
	}
	fleet, _, _ := strings.Cut(rest, ":")
	return fleet
}

// SubjectOf returns how a subject's gateway names it; "" for all else.
func SubjectOf(user string) string {
	rest, ok := strings.CutPrefix(user, fleetPrefix)
	if !ok {
		return ""
	}
	_, subject, _ := strings.Cut(rest, ":")
	return subject
}
