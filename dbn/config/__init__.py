"""Options, checked on construction; torch is not imported here."""
