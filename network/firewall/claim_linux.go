package firewall

import (
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ownedTable is the flag of a table that only the socket that made it may change,
// and that goes with that socket (Linux 5.12 on).
const ownedTable = 0x2 // NFT_TABLE_F_OWNER

// Claim takes the name for this process until the result is closed; it fails with
// [errdefs.ErrUnavailable] while another process has it. The claim is an empty
// table that the kernel removes when the process ends, however it ends. Unlike a
// locked file or a socket's name it is of exactly one network namespace, as bridges
// are, and nobody can take it who could not take the network apart anyway.
func Claim(name string) (io.Closer, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("nftables connection: %w", err)
	}
	err = createOwned(conn, name)
	if err == nil {
		return conn, nil
	}
	if errors.Is(err, unix.EPERM) { // somebody else's, or we may do nothing at all
		err = explainRefusal(name, err)
	}
	return nil, errors.Join(fmt.Errorf("firewall table %s: %w", name, err), conn.Close())
}

func explainRefusal(name string, refusal error) error {
	conn, err := connect()
	if err != nil {
		return err
	}
	if _, err := conn.ListTableOfFamily(name, nftables.TableFamilyIPv4); err != nil {
		return refusal
	}
	return errdefs.ErrUnavailable.WithMessage("another process has claimed it")
}

// createOwned speaks to the kernel itself: the library has no flags of tables.
func createOwned(conn *netlink.Conn, name string) error {
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_TABLE_NAME, Data: []byte(name + "\x00")},
		{Type: unix.NFTA_TABLE_FLAGS, Data: binaryutil.BigEndian.PutUint32(ownedTable)},
	})
	if err != nil {
		return err
	}
	message := func(kind netlink.HeaderType, flags netlink.HeaderFlags, family byte, resource uint16, data []byte) netlink.Message {
		header := append([]byte{family, unix.NFNETLINK_V0}, binaryutil.BigEndian.PutUint16(resource)...)
		return netlink.Message{Header: netlink.Header{Type: kind, Flags: netlink.Request | flags}, Data: append(header, data...)}
	}
	_, err = conn.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, netlink.Acknowledge|netlink.Create, unix.NFPROTO_IPV4, 0, attributes),
		message(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil),
	})
	if err != nil {
		return err
	}
	_, err = conn.Receive() // the acknowledgement, or the error
	return err
}
