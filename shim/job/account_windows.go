package job

import (
	"crypto/rand"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	netapi32 = windows.NewLazySystemDLL("netapi32.dll")

	procLogonUser         = advapi32.NewProc("LogonUserW")
	procNetUserAdd        = netapi32.NewProc("NetUserAdd")
	procNetUserDel        = netapi32.NewProc("NetUserDel")
	procNetLocalGroupAdd  = netapi32.NewProc("NetLocalGroupAddMembers")
	errUserNotFound       = windows.Errno(2221) // NERR_UserNotFound
	errMemberInLocalGroup = windows.Errno(1378) // ERROR_MEMBER_IN_ALIAS
)

// account is a local account that only one container has.
type account struct {
	name, password string
	sid            *windows.SID
}

// userInfo1 is USER_INFO_1.
type userInfo1 struct {
	name, password   *uint16
	passwordAge      uint32
	privilege        uint32
	homeDir, comment *uint16
	flags            uint32
	scriptPath       *uint16
}

// newAccount makes a local account with a password that nobody else learns. One that a
// container of the same id left is replaced.
func newAccount(name string) (_ *account, err error) {
	if err := removeAccount(name); err != nil {
		return nil, err
	}
	a := &account{name: name, password: rand.Text() + "-aA1"}
	name16, err1 := windows.UTF16PtrFromString(a.name)
	password16, err2 := windows.UTF16PtrFromString(a.password)
	comment, err3 := windows.UTF16PtrFromString("Slipway container, removed with it")
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	const (
		level            = 1
		ordinary         = 1           // USER_PRIV_USER
		passwordForEver  = 0x10000     // UF_DONT_EXPIRE_PASSWD
		passwordIsFixed  = 0x40        // UF_PASSWD_CANT_CHANGE
		scriptAndOrdinal = 0x1 | 0x200 // UF_SCRIPT, UF_NORMAL_ACCOUNT
	)
	info := userInfo1{
		name: name16, password: password16, privilege: ordinary, comment: comment,
		flags: scriptAndOrdinal | passwordForEver | passwordIsFixed,
	}
	if err := netCall(procNetUserAdd, 0, level, uintptr(unsafe.Pointer(&info)), 0); err != nil {
		return nil, fmt.Errorf("making account %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.remove())
		}
	}()
	if a.sid, _, _, err = windows.LookupSID("", name); err != nil {
		return nil, fmt.Errorf("the id of account %s: %w", name, err)
	}
	return a, a.joinUsers()
}

// joinUsers makes the account an ordinary user, which may log on.
func (a *account) joinUsers() error {
	group, err := windows.CreateWellKnownSid(windows.WinBuiltinUsersSid)
	if err != nil {
		return fmt.Errorf("the group of users: %w", err)
	}
	groupName, _, _, err := group.LookupAccount("")
	if err != nil {
		return fmt.Errorf("the name of the group of users: %w", err)
	}
	group16, err := windows.UTF16PtrFromString(groupName)
	if err != nil {
		return err
	}
	type localGroupMembersInfo0 struct{ sid *windows.SID }
	member := localGroupMembersInfo0{a.sid}
	const level, count = 0, 1
	err = netCall(procNetLocalGroupAdd, 0, uintptr(unsafe.Pointer(group16)), level, uintptr(unsafe.Pointer(&member)), count)
	if err != nil && !errors.Is(err, errMemberInLocalGroup) {
		return fmt.Errorf("adding account %s to %s: %w", a.name, groupName, err)
	}
	return nil
}

// logon returns a token of the account.
func (a *account) logon() (windows.Token, error) {
	name16, err1 := windows.UTF16PtrFromString(a.name)
	domain16, err2 := windows.UTF16PtrFromString(".")
	password16, err3 := windows.UTF16PtrFromString(a.password)
	if err := errors.Join(err1, err2, err3); err != nil {
		return 0, err
	}
	const interactive, defaultProvider = 2, 0 // LOGON32_LOGON_INTERACTIVE, LOGON32_PROVIDER_DEFAULT
	var token windows.Token
	ok, _, err := procLogonUser.Call(uintptr(unsafe.Pointer(name16)), uintptr(unsafe.Pointer(domain16)), uintptr(unsafe.Pointer(password16)),
		interactive, defaultProvider, uintptr(unsafe.Pointer(&token)))
	if ok == 0 {
		return 0, fmt.Errorf("logging on as %s: %w", a.name, err)
	}
	return token, nil
}

func (a *account) remove() error { return removeAccount(a.name) }

// removeAccount removes a local account. It is no error if there is none.
func removeAccount(name string) error {
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	if err := netCall(procNetUserDel, 0, uintptr(unsafe.Pointer(name16))); err != nil && !errors.Is(err, errUserNotFound) {
		return fmt.Errorf("removing account %s: %w", name, err)
	}
	return nil
}

// netCall calls a function that returns a NET_API_STATUS.
func netCall(proc *windows.LazyProc, args ...uintptr) error {
	if err := proc.Find(); err != nil {
		return err
	}
	if status, _, _ := proc.Call(args...); status != 0 {
		return windows.Errno(status)
	}
	return nil
}
