//go:build !nofencing

package edge

// Fencing: receivers refuse what comes under an older slot or session epoch,
// and who has no contact to its region's leader stops acting. It is switched
// off only to see that the checkers of the tests would find what it prevents.
const Fencing = true
