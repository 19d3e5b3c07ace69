package winpath

import "strings"

// SplitBind splits what docker run -v takes on Windows, [source:]target[:mode], at
// the colons that do not belong to a drive: C:\data:C:\db:ro has three parts. A
// drive is a letter and a colon at the beginning of a part, with a slash, a colon
// or nothing after it.
func SplitBind(bind string) []string {
	var parts []string
	for {
		end := len(bind)
		from := 0
		if len(bind) >= 4 && strings.HasPrefix(bind, `\\?\`) {
			from = 4
		}
		rest := bind[from:]
		if len(rest) >= 2 && isLetter(rest[0]) && rest[1] == ':' && (len(rest) == 2 || isSlash(rest[2]) || rest[2] == ':') {
			from += 2
		}
		if i := strings.IndexByte(bind[from:], ':'); i >= 0 {
			end = from + i
		}
		parts = append(parts, bind[:end])
		if end == len(bind) {
			return parts
		}
		bind = bind[end+1:]
	}
}
