@echo off
rem Starts PostgreSQL in a container on Windows, with the variables of the official image:
rem POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS, POSTGRES_HOST_AUTH_METHOD and PGDATA.
rem PGBIN is the directory of the installed programs. Values are only ever read as !NAME!, which nothing
rem in them can break out of.
setlocal EnableExtensions EnableDelayedExpansion
if not defined PGDATA set "PGDATA=!CONTAINER_ROOT!\pgdata"
if not defined POSTGRES_USER set "POSTGRES_USER=postgres"
if not defined POSTGRES_DB set "POSTGRES_DB=!POSTGRES_USER!"
if /i not "%~1"=="postgres" (
  %*
  exit /b !errorlevel!
)
if not exist "!PGDATA!\PG_VERSION" (
  call :initialise
  if errorlevel 1 exit /b 1
)
"!PGBIN!\postgres.exe" -D "!PGDATA!" %2 %3 %4 %5 %6 %7 %8 %9
exit /b !errorlevel!

:initialise
set "auth=scram-sha-256"
if defined POSTGRES_HOST_AUTH_METHOD set "auth=!POSTGRES_HOST_AUTH_METHOD!"
set "password="
if defined POSTGRES_PASSWORD (
  if not exist "!TEMP!" mkdir "!TEMP!"
  set "password=!TEMP!\initdb-password"
  >"!password!" echo(!POSTGRES_PASSWORD!
) else if /i not "!auth!"=="trust" (
  echo Error: Database is uninitialized and superuser password is not specified. 1>&2
  echo        Set POSTGRES_PASSWORD to a non-empty value, or POSTGRES_HOST_AUTH_METHOD=trust. 1>&2
  exit /b 1
)
set "with="
if defined password set "with=--pwfile="!password!""
"!PGBIN!\initdb.exe" -D "!PGDATA!" -U "!POSTGRES_USER!" -E UTF8 --locale=C -A !auth! !with! !POSTGRES_INITDB_ARGS!
set "code=!errorlevel!"
if defined password del "!password!"
if not "!code!"=="0" exit /b 1
>>"!PGDATA!\pg_hba.conf" echo host all all all !auth!
>>"!PGDATA!\postgresql.conf" echo listen_addresses = '*'
if /i "!POSTGRES_DB!"=="postgres" exit /b 0
echo CREATE DATABASE "!POSTGRES_DB!" | "!PGBIN!\postgres.exe" --single -D "!PGDATA!" postgres >nul
if errorlevel 1 exit /b 1
exit /b 0
