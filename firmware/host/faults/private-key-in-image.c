/* Fault: a private key is compiled into the image. What stands in for one here is none. */
extern const char key_of_the_image[];

__attribute__((used)) const char key_of_the_image[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "VGhpcyBpcyBub3QgYSBwcml2YXRlIGtleSBhbmQgcHJvdGVjdHMgbm90aGluZy4=\n"
    "-----END EC PRIVATE KEY-----\n";
