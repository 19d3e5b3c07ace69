package fromhost

// Accounts of an image: the few that its files and programs need, with Debian's own numbers. No account has a
// password, so none can be logged in to.
const (
	basePasswd = "root:*:0:0:root:/root:%s\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" //nolint:gosec // no password: the star is what says so
	baseGroup  = "root:*:0:\ntty:*:5:\nmail:*:8:\nshadow:*:42:\nutmp:*:43:\nstaff:*:50:\nnogroup:*:65534:\n"
)

// staticGroup keeps a file's group if it is one of those that have the same number everywhere.
func staticGroup(gid int) int {
	switch gid {
	case 5, 8, 42, 43, 50:
		return gid
	default:
		return 0
	}
}
