package simnet

import "time"

// published is a triangle of round-trip times between regions in
// milliseconds.
//
// Published figures, rounded: "Azure network round-trip latency statistics",
// 95th percentile over the 30 days that end on 30 July 2026
// (learn.microsoft.com/azure/networking/azure-network-latency, read as of that
// date); the mean of both directions where they differ. Our names stand for
// the Azure regions North Europe (Dublin), East US (Virginia), Central India
// (Pune), West US (California), Japan East (Tokyo), Southeast Asia
// (Singapore), Brazil South (São Paulo), Germany West Central (Frankfurt),
// South Africa North (Johannesburg), UAE North (Dubai).
var published = map[[2]string]int{
	{"eu-west", "us-east"}:      75,
	{"eu-west", "ap-south"}:     160,
	{"eu-west", "us-west"}:      137,
	{"eu-west", "ap-northeast"}: 232,
	{"eu-west", "ap-southeast"}: 236,
	{"eu-west", "sa-east"}:      176,
	{"eu-west", "eu-central"}:   29,
	{"eu-west", "af-south"}:     178,
	{"eu-west", "me-south"}:     131,

	{"us-east", "ap-south"}:     216,
	{"us-east", "us-west"}:      73,
	{"us-east", "ap-northeast"}: 165,
	{"us-east", "ap-southeast"}: 229,
	{"us-east", "sa-east"}:      120,
	{"us-east", "eu-central"}:   97,
	{"us-east", "af-south"}:     226,
	{"us-east", "me-south"}:     190,

	{"ap-south", "us-west"}:      224,
	{"ap-south", "ap-northeast"}: 129,
	{"ap-south", "ap-southeast"}: 59,
	{"ap-south", "sa-east"}:      320,
	{"ap-south", "eu-central"}:   151,
	{"ap-south", "af-south"}:     134,
	{"ap-south", "me-south"}:     35,

	{"us-west", "ap-northeast"}: 110,
	{"us-west", "ap-southeast"}: 172,
	{"us-west", "sa-east"}:      171,
	{"us-west", "eu-central"}:   158,
	{"us-west", "af-south"}:     279,
	{"us-west", "me-south"}:     253,

	{"ap-northeast", "ap-southeast"}: 74,
	{"ap-northeast", "sa-east"}:      270,
	{"ap-northeast", "eu-central"}:   248,
	{"ap-northeast", "af-south"}:     255,
	{"ap-northeast", "me-south"}:     155,

	{"ap-southeast", "sa-east"}:    337,
	{"ap-southeast", "eu-central"}: 179,
	{"ap-southeast", "af-south"}:   200,
	{"ap-southeast", "me-south"}:   88,

	{"sa-east", "eu-central"}: 200,
	{"sa-east", "af-south"}:   327,
	{"sa-east", "me-south"}:   290,

	{"eu-central", "af-south"}: 173,
	{"eu-central", "me-south"}: 122,

	{"af-south", "me-south"}: 104,
}

// UnknownRTT is taken between two regions of which the table lacks one: about
// the table's median, so that a made-up region is neither near nor far.
const UnknownRTT = 160 * time.Millisecond

// RTT is the published round-trip time between two regions; 0 within one.
func RTT(a, b string) time.Duration {
	if a == b {
		return 0
	}
	ms, ok := published[[2]string{a, b}]
	if !ok {
		ms, ok = published[[2]string{b, a}]
	}
	if !ok {
		return UnknownRTT
	}
	return time.Duration(ms) * time.Millisecond
}
