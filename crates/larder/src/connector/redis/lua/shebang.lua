#!lua
-- The beginning of a script that writes, and that a server without room for more does not run.
