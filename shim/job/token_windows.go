package job

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// disabledGroups are deny-only in a container's token: they open nothing, but a rule that
// denies them something still holds.
var disabledGroups = []string{
	"S-1-5-32-544", // Administrators
	"S-1-5-32-547", // Power Users
	"S-1-5-32-551", // Backup Operators
	"S-1-5-32-549", // Server Operators
	"S-1-5-32-548", // Account Operators
	"S-1-5-32-550", // Print Operators
	"S-1-5-32-578", // Hyper-V Administrators
	"S-1-5-114",    // local accounts that are administrators
}

// ownToken returns a handle to this process's token, to make others of.
func ownToken() (windows.Token, error) {
	var token windows.Token
	const access = windows.TOKEN_DUPLICATE | windows.TOKEN_QUERY | windows.TOKEN_ASSIGN_PRIMARY | windows.TOKEN_ADJUST_DEFAULT
	if err := windows.OpenProcessToken(windows.CurrentProcess(), access, &token); err != nil {
		return 0, fmt.Errorf("opening the engine's token: %w", err)
	}
	return token, nil
}

// restricted returns a copy of base for a container's processes: without the groups and
// privileges of administrators, at medium integrity, and with objects that it makes its own.
func restricted(base windows.Token) (windows.Token, error) {
	disable := make([]windows.SIDAndAttributes, len(disabledGroups))
	for i, text := range disabledGroups {
		sid, err := windows.StringToSid(text)
		if err != nil {
			return 0, fmt.Errorf("group %s: %w", text, err)
		}
		disable[i].Sid = sid
	}
	var token windows.Token
	ok, _, err := procCreateRestricted.Call(uintptr(base), disableMaxPrivilege,
		uintptr(len(disable)), uintptr(unsafe.Pointer(&disable[0])), 0, 0, 0, 0, uintptr(unsafe.Pointer(&token)))
	if ok == 0 {
		return 0, fmt.Errorf("restricting the container's token: %w", err)
	}
	if err := errors.Join(setIntegrity(token), ownObjects(token)); err != nil {
		return 0, errors.Join(err, token.Close())
	}
	return token, nil
}

// setIntegrity makes token one of medium integrity, as ordinary programs have it.
func setIntegrity(token windows.Token) error {
	sid, err := windows.StringToSid(fmt.Sprintf("S-1-16-%d", tokenIntegrityMediumRID))
	if err != nil {
		return fmt.Errorf("the medium integrity level: %w", err)
	}
	label := windows.Tokenmandatorylabel{Label: windows.SIDAndAttributes{Sid: sid, Attributes: windows.SE_GROUP_INTEGRITY}}
	if err := windows.SetTokenInformation(token, windows.TokenIntegrityLevel, (*byte)(unsafe.Pointer(&label)), label.Size()); err != nil {
		return fmt.Errorf("lowering the integrity of the container's token: %w", err)
	}
	return nil
}

// ownObjects makes what token's processes create theirs. An administrator's token names the
// group of administrators as owner and in its default list, and that group is
// disabled now: a process could not open its own pipes and events.
func ownObjects(token windows.Token) error {
	user, err := token.GetTokenUser()
	if err != nil {
		return fmt.Errorf("account of the container's token: %w", err)
	}
	system, err := windows.CreateWellKnownSid(windows.WinLocalSystemSid)
	if err != nil {
		return fmt.Errorf("the system's account: %w", err)
	}
	list, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{fullAccess(user.User.Sid, 0), fullAccess(system, 0)}, nil)
	if err != nil {
		return fmt.Errorf("default access of the container's token: %w", err)
	}
	type tokenOwner struct{ owner *windows.SID }
	type tokenDefaultDACL struct{ list *windows.ACL }
	owner, access := tokenOwner{user.User.Sid}, tokenDefaultDACL{list}
	if err := windows.SetTokenInformation(token, windows.TokenDefaultDacl, (*byte)(unsafe.Pointer(&access)), uint32(unsafe.Sizeof(access))); err != nil {
		return fmt.Errorf("default access of the container's token: %w", err)
	}
	if err := windows.SetTokenInformation(token, windows.TokenOwner, (*byte)(unsafe.Pointer(&owner)), uint32(unsafe.Sizeof(owner))); err != nil && !underWine() {
		return fmt.Errorf("owner of what the container's token makes: %w", err)
	}
	return nil
}

// fullAccess is a rule that gives an account everything, inherited as told.
func fullAccess(sid *windows.SID, inheritance uint32) windows.EXPLICIT_ACCESS {
	return windows.EXPLICIT_ACCESS{
		AccessPermissions: windows.GENERIC_ALL,
		AccessMode:        windows.GRANT_ACCESS,
		Inheritance:       inheritance,
		Trustee: windows.TRUSTEE{
			TrusteeForm:  windows.TRUSTEE_IS_SID,
			TrusteeType:  windows.TRUSTEE_IS_UNKNOWN,
			TrusteeValue: windows.TrusteeValueFromSID(sid),
		},
	}
}

// checkUser refuses a token of the system, and unless own is true of the engine's account:
// no list of access could tell its container from the engine.
func checkUser(token windows.Token, own bool) error {
	user, err := token.GetTokenUser()
	if err != nil {
		return fmt.Errorf("account of the container's token: %w", err)
	}
	engine, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return fmt.Errorf("the engine's account: %w", err)
	}
	switch {
	case user.User.Sid.IsWellKnown(windows.WinLocalSystemSid):
		return fmt.Errorf("a container does not run as the system; annotation %s=%s gives it an account of its own: %w", IdentityAnnotation, Account, errdefs.ErrFailedPrecondition)
	case !own && user.User.Sid.Equals(engine.User.Sid):
		return fmt.Errorf("the container's token is of the engine's own account %s; annotation %s=%s allows that: %w", engine.User.Sid, IdentityAnnotation, Own, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// grantTree gives an account full access to a directory and what is beneath it.
func grantTree(dir string, sid *windows.SID) error {
	descriptor, err := windows.GetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", dir, err)
	}
	old, _, err := descriptor.DACL()
	if err != nil && !errors.Is(err, windows.ERROR_OBJECT_NOT_FOUND) {
		return fmt.Errorf("access list of %s: %w", dir, err)
	}
	list, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{fullAccess(sid, windows.SUB_CONTAINERS_AND_OBJECTS_INHERIT)}, old)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", dir, err)
	}
	if err := windows.SetNamedSecurityInfo(dir, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION, nil, nil, list, nil); err != nil {
		return fmt.Errorf("giving the container access to %s: %w", dir, err)
	}
	return nil
}

// underWine reports whether this is Wine, whose ntdll says so.
func underWine() bool { return ntdll.NewProc("wine_get_version").Find() == nil }
