package sqlserver

import (
	"strings"
)

// Page is the title of a page of Microsoft's documentation.
type Page string

// The pages that the statements follow.
const (
	PageServerProperty  Page = "SERVERPROPERTY (Transact-SQL)"
	PageDatabases       Page = "sys.databases (Transact-SQL)"
	PageMasterFiles     Page = "sys.master_files (Transact-SQL)"
	PageUse             Page = "USE (Transact-SQL)"
	PageCheckpoint      Page = "CHECKPOINT (Transact-SQL)"
	PageCreateDatabase  Page = "CREATE DATABASE (Transact-SQL)"
	PageDetach          Page = "sp_detach_db (Transact-SQL)"
	PageSetOptions      Page = "ALTER DATABASE SET options (Transact-SQL)"
	PageOrphans         Page = "Troubleshoot orphaned users (SQL Server)"
	PageServiceKey      Page = "ALTER SERVICE MASTER KEY (Transact-SQL)"
	PageAlterLogin      Page = "ALTER LOGIN (Transact-SQL)"
	PageSnapshotBackup  Page = "Create a Transact-SQL snapshot backup"
	PageShutdown        Page = "SHUTDOWN (Transact-SQL)"
	PageMoveSystem      Page = "Move System Databases"
	PageMoveUser        Page = "Move User Databases"
	PageJobs            Page = "dbo.sysjobs (Transact-SQL)"
	PageUpdateJob       Page = "sp_update_job (Transact-SQL)"
	PageMailProfiles    Page = "sysmail_help_profile_sp (Transact-SQL)"
	PageStopMail        Page = "sysmail_stop_sp (Transact-SQL)"
	PageServers         Page = "sys.servers (Transact-SQL)"
	PageServerOption    Page = "sp_serveroption (Transact-SQL)"
	PageEndpoints       Page = "sys.endpoints (Transact-SQL)"
	PageAlterEndpoint   Page = "ALTER ENDPOINT (Transact-SQL)"
	PageStartProcedures Page = "sys.procedures (Transact-SQL)"
)

// statement is a batch of Transact-SQL. Its text always has a character that no name of a procedure has: the client sends a batch
// of one word, such as CHECKPOINT, as the call of a procedure of that name, so each ends in a semicolon.
type statement struct {
	page Page
	text string
	args []any
}

func use(database string) statement {
	return statement{page: PageUse, text: "USE " + quoteName(database) + ";"}
}

// version asks what the server is. IsServerSuspendedForSnapshotBackup and the like are unknown to older servers, for
// which SERVERPROPERTY returns NULL.
func version() statement {
	return statement{page: PageServerProperty, text: "SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)) AS version," +
		" CAST(SERVERPROPERTY('Edition') AS nvarchar(128)) AS edition," +
		" CAST(SERVERPROPERTY('InstanceName') AS nvarchar(128)) AS instance;"}
}

// recovering counts the databases that are being recovered (state 2); the other states that keep a database from being used
// (restoring, suspect, offline) last until somebody acts, and a server with such a database is up.
func recovering() statement {
	return statement{page: PageDatabases, text: "SELECT COUNT(*) AS recovering FROM sys.databases WHERE state = 2;"}
}

// userDatabases lists the databases that are online and not the server's own (database_id 1 to 4).
func userDatabases() statement {
	return statement{page: PageDatabases, text: "SELECT name FROM sys.databases WHERE database_id > 4 AND state = 0 ORDER BY database_id;"}
}

func checkpoint() statement { return statement{page: PageCheckpoint, text: "CHECKPOINT;"} }

// files lists the files of all databases, and size is in pages of 8 KB.
func files() statement {
	return statement{page: PageMasterFiles, text: "SELECT DB_NAME(database_id) AS db, database_id, name, physical_name," +
		" CAST(size AS bigint) AS pages FROM sys.master_files ORDER BY database_id, file_id;"}
}

// attach makes a database of files. The first is the primary one; the others need to be named only if they are not where they were,
// and naming them always is right too.
func attach(database string, paths []string, rebuildLog bool) statement {
	specs := make([]string, len(paths))
	for i, p := range paths {
		specs[i] = "(FILENAME = " + quoteText(p) + ")"
	}
	how := "FOR ATTACH"
	if rebuildLog {
		how = "FOR ATTACH_REBUILD_LOG"
	}
	return statement{page: PageCreateDatabase, text: "CREATE DATABASE " + quoteName(database) + " ON " + strings.Join(specs, ", ") + " " + how + ";"}
}

// asyncStatistics asks whether a thread of the server updates the database's statistics: in single-user mode it would take the only
// connection.
func asyncStatistics(database string) statement {
	return statement{page: PageDatabases, text: "SELECT is_auto_update_stats_async_on FROM sys.databases WHERE name = @p1;", args: []any{database}}
}

func setAsyncStatistics(database string, on bool) statement {
	return statement{page: PageDetach, text: "ALTER DATABASE " + quoteName(database) + " SET AUTO_UPDATE_STATISTICS_ASYNC " +
		map[bool]string{false: "OFF", true: "ON"}[on] + ";"}
}

func singleUser(database string) statement {
	return statement{page: PageSetOptions, text: "ALTER DATABASE " + quoteName(database) + " SET SINGLE_USER WITH ROLLBACK IMMEDIATE;"}
}

func multiUser(database string) statement {
	return statement{page: PageSetOptions, text: "ALTER DATABASE " + quoteName(database) + " SET MULTI_USER;"}
}

// detach skips UPDATE STATISTICS, which would read every table.
func detach(database string) statement {
	return statement{page: PageDetach, text: "EXEC sp_detach_db @dbname = " + quoteText(database) + ", @skipchecks = N'true';"}
}

// orphans lists the users of the current database that belong to a login which this server does not have.
func orphans() statement {
	return statement{page: PageOrphans, text: "SELECT dp.name AS user_name, CONVERT(nvarchar(200), dp.sid, 1) AS sid" +
		" FROM sys.database_principals AS dp LEFT JOIN sys.server_principals AS sp ON dp.sid = sp.sid" +
		" WHERE sp.sid IS NULL AND dp.authentication_type_desc = 'INSTANCE' AND dp.principal_id > 4 ORDER BY dp.name;"}
}

func mapUser(user, login string) statement {
	return statement{page: PageOrphans, text: "ALTER USER " + quoteName(user) + " WITH LOGIN = " + quoteName(login) + ";"}
}

func regenerateServiceKey(force bool) statement {
	how := "REGENERATE"
	if force {
		how = "FORCE REGENERATE"
	}
	return statement{page: PageServiceKey, text: "ALTER SERVICE MASTER KEY " + how + ";"}
}

func setPassword(login, password string) statement {
	return statement{page: PageAlterLogin, text: "ALTER LOGIN " + quoteName(login) + " WITH PASSWORD = " + quoteText(password) + ";"}
}

func enableLogin(login string) statement {
	return statement{page: PageAlterLogin, text: "ALTER LOGIN " + quoteName(login) + " ENABLE;"}
}

// suspend freezes the writes of all user databases; COPY_ONLY leaves the differential bitmap, and so the user's own
// chain of backups, as it is.
func suspend() statement {
	return statement{page: PageSnapshotBackup, text: "ALTER SERVER CONFIGURATION SET SUSPEND_FOR_SNAPSHOT_BACKUP = ON (MODE = COPY_ONLY);"}
}

func resume() statement {
	return statement{page: PageSnapshotBackup, text: "ALTER SERVER CONFIGURATION SET SUSPEND_FOR_SNAPSHOT_BACKUP = OFF;"}
}

func shutdown(noWait bool) statement {
	text := "SHUTDOWN;"
	if noWait {
		text = "SHUTDOWN WITH NOWAIT;"
	}
	return statement{page: PageShutdown, text: text}
}

func moveFile(database, logical, path string) statement {
	page := PageMoveUser
	if isSystem(database) {
		page = PageMoveSystem
	}
	return statement{page: page, text: "ALTER DATABASE " + quoteName(database) + " MODIFY FILE (NAME = " + quoteName(logical) +
		", FILENAME = " + quoteText(path) + ");"}
}

func isSystem(database string) bool {
	switch strings.ToLower(database) {
	case "master", "model", "msdb", "tempdb":
		return true
	}
	return false
}

func jobs() statement {
	return statement{page: PageJobs, text: "SELECT name FROM msdb.dbo.sysjobs WHERE enabled = 1 ORDER BY name;"}
}

func disableJob(name string) statement {
	return statement{page: PageUpdateJob, text: "EXEC msdb.dbo.sp_update_job @job_name = @p1, @enabled = 0;", args: []any{name}}
}

func mailProfiles() statement {
	return statement{page: PageMailProfiles, text: "EXEC msdb.dbo.sysmail_help_profile_sp;"}
}

func stopMail() statement {
	return statement{page: PageStopMail, text: "EXEC msdb.dbo.sysmail_stop_sp;"}
}

func linkedServers() statement {
	return statement{page: PageServers, text: "SELECT name, provider, data_source FROM sys.servers" +
		" WHERE is_linked = 1 AND (is_data_access_enabled = 1 OR is_rpc_out_enabled = 1) ORDER BY name;"}
}

func serverOptionOff(server, option string) statement {
	return statement{
		page: PageServerOption, text: "EXEC sp_serveroption @server = @p1, @optname = @p2, @optvalue = N'false';",
		args: []any{server, option},
	}
}

// endpoints lists the started endpoints that speak to other servers: Service Broker (3) and mirroring with
// availability groups (4).
func endpoints() statement {
	return statement{page: PageEndpoints, text: "SELECT name, type_desc FROM sys.endpoints WHERE type IN (3, 4) AND state = 0 ORDER BY name;"}
}

func stopEndpoint(name string) statement {
	return statement{page: PageAlterEndpoint, text: "ALTER ENDPOINT " + quoteName(name) + " STATE = STOPPED;"}
}

func startProcedures() statement {
	return statement{page: PageStartProcedures, text: "SELECT name FROM master.sys.procedures WHERE is_auto_executed = 1 ORDER BY name;"}
}
