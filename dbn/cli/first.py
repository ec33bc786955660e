"""What a program imports before all else, so that a signal ends it with one line from then on."""

from dbn.cli.signals import end_at_once_from_now_on

end_at_once_from_now_on()
