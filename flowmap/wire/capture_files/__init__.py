"""The file formats pcap and pcapng."""
