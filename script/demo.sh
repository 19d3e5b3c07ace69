#!/usr/bin/env bash
# Shows a real database that is committed while it is written to, and cloned. Called by `make demo`, after the build.
#
#   script/demo.sh         the demo
#   script/demo.sh clean   stops its daemon and removes everything that it has made
#
#   DEMO_SIZE   size of the database (1GB)
#   DEMO_ROOT   the daemon's data root (/var/lib/slipway-demo)
#   DEMO_RUN    its exec root (/run/slipway-demo)
#   DEMO_BRIDGE its bridge (slipway-demo0)
#   DEMO_HOST   address of a daemon that runs already; otherwise one is started, and left running
set -euo pipefail
cd "$(dirname "$0")/.."

root=${DEMO_ROOT:-/var/lib/slipway-demo}
run=${DEMO_RUN:-/run/slipway-demo}
bridge=${DEMO_BRIDGE:-slipway-demo0}
host=${DEMO_HOST:-unix://$run/slipway.sock}
log=$root/slipwayd.log

die() { echo "demo: $*" >&2; exit 1; }
[[ $(id -u) == 0 ]] || die "run as root: the daemon needs it"
docker() { bin/clients/docker -H "$host" "$@"; }
# A daemon that is starting lets its clients wait.
answers() { timeout 30 bin/clients/docker -H "$host" version >/dev/null 2>&1; }
# pid_of PROGRAM: the process that its file names, if that is the program still.
pid_of() {
	local pid
	pid=$(cat "$run/$1.pid" 2>/dev/null) && [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "${2:-$1}" ]] && echo "$pid"
}

for f in bin/slipwayd bin/slipway bin/clients/docker; do
	[[ -x $f ]] || die "$f is missing: run make demo, or make build"
done

start_daemon() {
	local pid until=$((SECONDS + 60))
	mkdir -p "$root" "$run"
	setsid bin/slipwayd --data-root "$root" --exec-root "$run" --host "$host" --pidfile "$run/slipwayd.pid" \
		--bridge "$bridge" </dev/null >>"$log" 2>&1 &
	pid=$!
	disown
	while ((SECONDS < until)) && kill -0 "$pid" 2>/dev/null; do
		answers && return
		sleep 0.1
	done
	tail -n 20 "$log" >&2
	die "the daemon did not start; the end of $log is above"
}

# stop PROGRAM: ends the process and waits for it.
stop() {
	local pid
	pid=$(pid_of "$@") || return 0
	kill "$pid"
	while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
}

clean() {
	local alias link
	# Containers outlive a daemon that was killed. Only a daemon can take back what
	# they have in the kernel and mounted.
	if [[ -d $root ]]; then
		answers || start_daemon
		docker ps -aq | xargs -r bin/clients/docker -H "$host" rm -fv >/dev/null
		docker network ls -q --filter type=custom | xargs -r bin/clients/docker -H "$host" network rm >/dev/null
	fi
	stop slipwayd
	stop logger slipway-logger
	if mountpoint -q "$root/pool"; then umount "$root/pool"; fi
	for alias in /sys/class/net/*/ifalias; do
		link=$(basename "$(dirname "$alias")")
		if [[ -d /sys/class/net/$link/bridge && $(cat "$alias" 2>/dev/null) == "slipway:$bridge" ]]; then ip link delete "$link"; fi
	done
	if nft list table ip "slipway-$bridge" &>/dev/null; then nft delete table ip "slipway-$bridge"; fi
	# What is mounted there after all may be somebody's: it stays.
	rm -rf --one-file-system "$root" "$run"
}

case ${1:-} in
"") ;;
clean)
	[[ -z ${DEMO_HOST:-} ]] || die "DEMO_HOST is set: that daemon is not the demo's"
	clean
	exit
	;;
*) die "usage: script/demo.sh [clean]" ;;
esac

if [[ -z ${DEMO_HOST:-} ]]; then
	# After another build the old daemon is replaced. Its containers do not notice.
	if pid=$(pid_of slipwayd) && ! [[ /proc/$pid/exe -ef bin/slipwayd ]]; then
		stop slipwayd
	fi
	answers || start_daemon
else
	answers || die "no daemon answers at $host"
fi

mkdir -p bin
go build -buildvcs=false -o bin/slipway-demo ./script/demo
bin/slipway-demo --host "$host" --docker bin/clients/docker --slipway bin/slipway --size "${DEMO_SIZE:-1GB}"

cat <<END

Look around with any Docker client:

  bin/clients/docker context create slipway --docker host=$host
  bin/clients/docker --context slipway ps
  bin/clients/docker --context slipway exec -it demo-1 psql -U postgres demo
  bin/clients/docker --context slipway run -d --name mine -P demo:committed
END
if [[ -z ${DEMO_HOST:-} ]]; then
	cat <<-END

		The daemon goes on running; its log is $log.
		Stop it and remove everything with:

		  script/demo.sh clean
	END
fi
