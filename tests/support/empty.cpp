// Nothing: GoogleTest has the main function of the programs that only hold its precompiled header.
