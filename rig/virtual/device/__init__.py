"""A scripted network device: a CoAP server over DTLS that is right by default and wrong on request."""
