"""Where a build's source comes from: a folder, a repository, an archive. Run in a process of their
own (`builds.step`), whose output is the `fetch` step's log."""
