// Package winpath judges file names and paths by the rules of Windows, on any
// system.
//
// Windows reads many names in another way than they are written: "a." opens "a",
// "NUL.txt" opens a device, "a:b" opens a stream that is hidden in "a", and "A" is
// "a". A name that comes from an archive, an image or a client is checked here
// before it becomes a file. The rules are those of Microsoft's page "Naming Files,
// Paths, and Namespaces".
package winpath

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

// maxName is the length of one name in NTFS and ReFS, in UTF-16 code units.
const maxName = 255

// maxPath is the length of a whole path that begins with \\?\, in UTF-16 code
// units, less what the engine's own directories need.
const maxPath = 32767 - 512

// CheckName returns an error of the class InvalidArgument, which says why, if name
// is not the name of a file or directory that Windows takes as it is written.
func CheckName(name string) error {
	switch {
	case name == "", name == ".", name == "..":
		return invalid(name, "it is not the name of a file")
	case !utf8.ValidString(name):
		return invalid(name, "it is not valid UTF-8, and Windows keeps names in Unicode")
	case utf16Len(name) > maxName:
		return invalid(name, fmt.Sprintf("it has more than %d characters", maxName))
	case strings.ContainsRune(name, ':'):
		return invalid(name, "what follows the colon would be an alternate data stream, hidden in another file")
	}
	if i := strings.IndexFunc(name, forbidden); i >= 0 {
		r, _ := utf8.DecodeRuneInString(name[i:])
		return invalid(name, fmt.Sprintf("Windows does not allow %q in names", r))
	}
	if last := name[len(name)-1]; last == '.' || last == ' ' {
		return invalid(name, "Windows would leave out the dot or space at its end")
	}
	if device := deviceOf(name); device != "" {
		return invalid(name, "it means the device "+device)
	}
	return nil
}

// CheckPath checks every name of a path that is separated by slashes and relative;
// "." is the root and allowed.
func CheckPath(path string) error {
	if path == "." {
		return nil
	}
	if utf16Len(path) > maxPath {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the path %.60q… has more than %d characters", path, maxPath))
	}
	for name := range strings.SplitSeq(path, "/") {
		if err := CheckName(name); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// Fold returns a text that is the same for all paths that Windows takes for the
// same: it compares them letter by letter, in upper case. The table that a volume
// has for this differs from Unicode's, which is used here, in a few rare letters.
func Fold(path string) string {
	return strings.Map(func(r rune) rune {
		if r > 0xFFFF { // names are compared by UTF-16 code unit
			return r
		}
		if upper := unicode.ToUpper(r); upper <= 0xFFFF {
			return upper
		}
		return r
	}, path)
}

func forbidden(r rune) bool {
	return r < ' ' || strings.ContainsRune(`<>"/\|?*`, r)
}

// devices are the names that mean a device in every directory. COM and LPT are
// followed by one digit; the superscripts count as digits.
var devices = []string{"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}

// deviceOf returns the device that name means, or "". What follows a dot does not
// count, nor do spaces before that: "nul .txt" is NUL.
func deviceOf(name string) string {
	base, _, _ := strings.Cut(name, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	if slices.Contains(devices, base) {
		return base
	}
	if number, ok := strings.CutPrefix(base, "COM"); ok && isPort(number) {
		return base
	}
	if number, ok := strings.CutPrefix(base, "LPT"); ok && isPort(number) {
		return base
	}
	return ""
}

func isPort(number string) bool {
	return utf8.RuneCountInString(number) == 1 && strings.Contains("0123456789¹²³", number)
}

func utf16Len(s string) int {
	if len(s) <= maxName {
		return len(s) // an upper bound is enough to be short
	}
	n := 0
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}

func invalid(name, why string) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%q cannot be a file's name on Windows: %s", name, why))
}
