package job

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

// subject is whose rights a container's processes have.
type subject struct {
	token        windows.Token
	capabilities *securityCapabilities // of an AppContainer
	// sid is whom the container's files are given to; nil if they are the engine's account's anyhow.
	sid *windows.SID
	// remove takes back what was made for the container.
	remove func() error
}

// newSubject makes the identity of the container id.
func newSubject(identity Identity, id string) (_ *subject, err error) {
	s := &subject{remove: func() error { return nil }}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	base, err := s.base(identity, id)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	if err := checkUser(base, identity != Account); err != nil {
		return nil, err
	}
	if s.token, err = restricted(base); err != nil {
		return nil, err
	}
	return s, nil
}

// base returns the token that is to be restricted.
func (s *subject) base(identity Identity, id string) (windows.Token, error) {
	switch identity {
	case Own:
		return ownToken()
	case Account:
		account, err := newAccount(accountName(id))
		if err != nil {
			return 0, err
		}
		s.remove, s.sid = account.remove, account.sid
		return account.logon()
	case AppContainer:
		container, err := newAppContainer(appContainerName(id))
		if err != nil {
			return 0, err
		}
		s.remove, s.sid, s.capabilities = container.remove, container.sid, container.capabilities
		return ownToken()
	default:
		return 0, fmt.Errorf("identity %q: %w", identity, errdefs.ErrInvalidArgument)
	}
}

// grant gives the container what is in dirs.
func (s *subject) grant(dirs []string) error {
	if s.sid == nil {
		return nil
	}
	for _, dir := range dirs {
		if err := grantTree(dir, s.sid); err != nil {
			return err
		}
	}
	return nil
}

func (s *subject) close() error {
	var err error
	if s.token != 0 {
		err = s.token.Close()
		s.token = 0
	}
	return errors.Join(err, s.remove())
}

// RemoveIdentity removes what the identity of a container left on the host that was not
// closed, as its shim died. It is no error if there is nothing.
func RemoveIdentity(identity Identity, id string) error {
	switch identity {
	case Account:
		return removeAccount(accountName(id))
	case AppContainer:
		return removeAppContainer(appContainerName(id))
	default:
		return nil
	}
}

// accountName is a name of at most 20 characters, the most that Windows allows.
func accountName(id string) string { return "slipway-" + shortID(id) }

func appContainerName(id string) string { return "slipway." + id[:min(len(id), 48)] }

func shortID(id string) string { return id[:min(len(id), 12)] }
