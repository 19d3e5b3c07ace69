package job

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/windows"
)

var (
	userenv = windows.NewLazySystemDLL("userenv.dll")

	procCreateAppContainer = userenv.NewProc("CreateAppContainerProfile")
	procDeleteAppContainer = userenv.NewProc("DeleteAppContainerProfile")
	procDeriveAppContainer = userenv.NewProc("DeriveAppContainerSidFromAppContainerName")
)

// networkCapabilities let an AppContainer connect and listen: internetClient,
// internetClientServer and privateNetworkClientServer. Connections to itself
// (127.0.0.1) stay forbidden, as Windows has it for all AppContainers.
var networkCapabilities = []string{"S-1-15-3-1", "S-1-15-3-2", "S-1-15-3-3"}

// securityCapabilities is SECURITY_CAPABILITIES.
type securityCapabilities struct {
	sid          *windows.SID
	capabilities *windows.SIDAndAttributes
	count        uint32
	_            uint32
}

// appContainer is an AppContainer that only one container has.
type appContainer struct {
	name         string
	sid          *windows.SID
	capabilities *securityCapabilities
}

func newAppContainer(name string) (*appContainer, error) {
	if err := procCreateAppContainer.Find(); err != nil {
		return nil, fmt.Errorf("this system has no AppContainers (%w): %w", err, errdefs.ErrNotImplemented)
	}
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	granted := make([]windows.SIDAndAttributes, len(networkCapabilities))
	for i, text := range networkCapabilities {
		sid, err := windows.StringToSid(text)
		if err != nil {
			return nil, fmt.Errorf("capability %s: %w", text, err)
		}
		granted[i] = windows.SIDAndAttributes{Sid: sid, Attributes: windows.SE_GROUP_ENABLED}
	}
	a := &appContainer{name: name}
	pointer := uintptr(unsafe.Pointer(name16))
	result, _, _ := procCreateAppContainer.Call(pointer, pointer, pointer,
		uintptr(unsafe.Pointer(&granted[0])), uintptr(len(granted)), uintptr(unsafe.Pointer(&a.sid)))
	if exists := uint32(windows.ERROR_ALREADY_EXISTS) | 0x80070000; uint32(result) == exists { //nolint:gosec // an HRESULT has 32 bits
		// Of a container of the same id whose shim died.
		result, _, _ = procDeriveAppContainer.Call(pointer, uintptr(unsafe.Pointer(&a.sid)))
	}
	if int32(result) < 0 { //nolint:gosec // an HRESULT has 32 bits
		return nil, fmt.Errorf("making AppContainer %s: %w: %w", name, windows.Errno(result), errdefs.ErrNotImplemented)
	}
	runtime.KeepAlive(name16)
	a.capabilities = &securityCapabilities{sid: a.sid, capabilities: &granted[0], count: uint32(len(granted))} //nolint:gosec // three
	return a, nil
}

func (a *appContainer) remove() error {
	return errors.Join(windows.FreeSid(a.sid), removeAppContainer(a.name))
}

// removeAppContainer removes an AppContainer. It is no error if there is none.
func removeAppContainer(name string) error {
	if procDeleteAppContainer.Find() != nil {
		return nil
	}
	name16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	if result, _, _ := procDeleteAppContainer.Call(uintptr(unsafe.Pointer(name16))); int32(result) < 0 { //nolint:gosec // an HRESULT has 32 bits
		return fmt.Errorf("removing AppContainer %s: %w", name, windows.Errno(result))
	}
	return nil
}
