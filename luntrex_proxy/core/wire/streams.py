"""Which reader a stream gets: one for each grammar, each in a file that says what the grammar's events mean."""

from luntrex_proxy.core.call import CHAT, RESPONSES, Grammar
from luntrex_proxy.core.wire.chatstream import ChatReader
from luntrex_proxy.core.wire.namedstreams import MessagesReader, ResponsesReader
from luntrex_proxy.core.wire.sse import StreamReader


def stream_reader(grammar: Grammar, *, withhold_usage: bool = False) -> StreamReader:
    """A reader for one stream. `withhold_usage`: the usage was asked for by us, and the client must not see it."""
    if grammar is CHAT:
        return ChatReader(withhold_usage=withhold_usage)
    return ResponsesReader() if grammar is RESPONSES else MessagesReader()
