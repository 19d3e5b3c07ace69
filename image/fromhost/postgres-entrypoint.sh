#!/bin/sh
# Starts PostgreSQL in a container, with the variables and the conventions of the official image:
#
#   POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_INITDB_WALDIR,
#   POSTGRES_HOST_AUTH_METHOD, each also as NAME_FILE, and /docker-entrypoint-initdb.d.
#
# They matter only while the data directory is empty.
set -eu

say() { printf 'docker-entrypoint: %s\n' "$*" >&2; }
fail() {
	printf 'docker-entrypoint: error: %s\n' "$*" >&2
	exit 1
}

# value NAME DEFAULT: the variable NAME, or the content of the file that NAME_FILE names.
value() {
	eval "direct=\${$1-} file=\${$1_FILE-}"
	if [ -n "$direct" ] && [ -n "$file" ]; then
		fail "both $1 and $1_FILE are set; set one of them"
	fi
	if [ -n "$file" ]; then
		direct=$(cat -- "$file") || fail "cannot read $1_FILE"
	fi
	printf '%s' "${direct:-$2}"
}

# asks_only: true if the server is only asked something and needs no data.
asks_only() {
	for arg; do
		case $arg in
		-'?' | --help | --describe-config | -V | --version) return 0 ;;
		esac
	done
	return 1
}

make_directories() {
	mkdir -p "$PGDATA"
	chmod 00700 "$PGDATA" 2>/dev/null || : # not ours if the container has a user of its own
	mkdir -p /run/postgresql 2>/dev/null || :
	chmod 03775 /run/postgresql 2>/dev/null || :
	if [ -n "${POSTGRES_INITDB_WALDIR-}" ]; then
		mkdir -p "$POSTGRES_INITDB_WALDIR"
		chmod 700 "$POSTGRES_INITDB_WALDIR"
	fi
	if [ "$user" = 0 ]; then
		find "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} /run/postgresql ! -user postgres -exec chown postgres {} +
	fi
}

check_settings() {
	if [ -z "$POSTGRES_PASSWORD" ] && [ "$auth" != trust ]; then
		cat >&2 <<-'END'
			docker-entrypoint: error: the data directory is empty and there is no password for the administrator.
			    Give it one:                 docker run -e POSTGRES_PASSWORD=secret ...
			    or let everybody in without: docker run -e POSTGRES_HOST_AUTH_METHOD=trust ...
		END
		exit 1
	fi
	if [ "$auth" = trust ]; then
		say "POSTGRES_HOST_AUTH_METHOD=trust: whoever reaches the port is let in without a password"
	fi
}

init_data() {
	say "initialising $PGDATA"
	pwfile=$(mktemp)
	printf '%s\n' "$POSTGRES_PASSWORD" >"$pwfile"
	# The variable holds arguments, quoted as for a shell.
	eval 'initdb --username="$POSTGRES_USER" --pwfile="$pwfile" -D "$PGDATA"' \
		'${POSTGRES_INITDB_WALDIR:+--waldir="$POSTGRES_INITDB_WALDIR"}' "${POSTGRES_INITDB_ARGS-}" '"$@"' || {
		rm -f "$pwfile"
		fail "initdb failed"
	}
	rm -f "$pwfile"
	if [ -z "$auth" ]; then
		auth=$(postgres -C password_encryption -D "$PGDATA")
	fi
	printf '\nhost all all all %s\n' "$auth" >>"$PGDATA/pg_hba.conf"
}

# A server that only this container's own processes can reach.
start_for_init() {
	[ "$1" = postgres ] && shift
	pg_ctl -D "$PGDATA" -w -o "$(quote "$@") -c listen_addresses= -p ${PGPORT:-5432}" start >&2
}

quote() {
	for arg; do
		printf " '%s'" "$(printf '%s' "$arg" | sed "s/'/'\\\\''/g")"
	done
}

stop_for_init() { pg_ctl -D "$PGDATA" -m fast -w stop >&2; }

# sql DATABASE ARGUMENT...: psql as the administrator, over the local socket.
sql() {
	database=$1
	shift
	PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password \
		--username "$POSTGRES_USER" --dbname "$database" "$@"
}

make_database() {
	[ "$POSTGRES_DB" != postgres ] || return 0
	there=$(printf "SELECT 1 FROM pg_database WHERE datname = :'db';" | sql postgres -v db="$POSTGRES_DB" -At)
	if [ -z "$there" ]; then
		printf 'CREATE DATABASE :"db";' | sql postgres -v db="$POSTGRES_DB"
	fi
}

run_init_scripts() {
	for f in /docker-entrypoint-initdb.d/*; do
		[ -e "$f" ] || continue
		case $f in
		*.sh)
			if [ -x "$f" ]; then
				say "running $f"
				"$f"
			else
				say "sourcing $f"
				. "$f"
			fi
			;;
		*.sql) say "running $f" && sql "$POSTGRES_DB" -f "$f" ;;
		*.sql.gz) say "running $f" && unpack gzip "$f" ;;
		*.sql.xz) say "running $f" && unpack xz "$f" ;;
		*.sql.zst) say "running $f" && unpack zstd "$f" ;;
		*) say "ignoring $f" ;;
		esac
	done
}

# unpack PROGRAM FILE: runs a compressed script. That unpacking failed must not pass unseen.
unpack() {
	plain=$(mktemp)
	"$1" -dc "$2" >"$plain"
	sql "$POSTGRES_DB" -f "$plain"
	rm -f "$plain"
}

main() {
	case ${1-} in
	-*) set -- postgres "$@" ;;
	esac
	if [ "${1-}" != postgres ] || asks_only "$@"; then
		exec "$@"
	fi
	user=$(id -u)
	if ! is_ready; then
		make_directories
		if [ "$user" = 0 ]; then
			as_postgres "$0" "$@"
		fi
		if [ ! -s "$PGDATA/PG_VERSION" ]; then
			first_start "$@"
		fi
	fi
	unset POSTGRES_PASSWORD # functions of the database can see the server's environment
	if [ "$user" = 0 ]; then
		as_postgres "$@"
	fi
	exec "$@"
}

# is_ready: true if there is data of the right owner and a place for the socket. Nothing else is looked at, so that a
# database of very many files starts as fast as a small one.
is_ready() {
	[ -s "$PGDATA/PG_VERSION" ] && [ -d /run/postgresql ] &&
		[ "$(stat -c %U "$PGDATA" "$PGDATA/PG_VERSION" /run/postgresql)" = "postgres
postgres
postgres" ]
}

# as_postgres COMMAND...: goes on as the user postgres.
as_postgres() { HOME=/var/lib/postgresql exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }

first_start() {
	POSTGRES_PASSWORD=$(value POSTGRES_PASSWORD '')
	POSTGRES_USER=$(value POSTGRES_USER postgres)
	POSTGRES_DB=$(value POSTGRES_DB "$POSTGRES_USER")
	POSTGRES_INITDB_ARGS=$(value POSTGRES_INITDB_ARGS '')
	auth=$(value POSTGRES_HOST_AUTH_METHOD '')
	export POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB POSTGRES_INITDB_ARGS
	check_settings
	init_data
	start_for_init "$@"
	make_database
	run_init_scripts
	stop_for_init
	say "initialisation is complete"
}

main "$@"
