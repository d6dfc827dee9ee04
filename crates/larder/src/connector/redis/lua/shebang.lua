#!lua
-- Begins a script that writes, and that a full server does not run.
