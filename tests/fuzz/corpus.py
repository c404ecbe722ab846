"""Inputs to start from, and words that the grammar of XMC text is made of."""

SEEDS = [
    b"2 5 4\n0,3 0:1 4:-2.5e-3\n 1:0.25\n",
    b"1 3 3\n1 0:1 0:2 2:0\n",
    b"3 10 10\r\n1,2,3 1:1\r\n \r\n9\r\n\n\n",
    b"1 1 1\n0 0:340282356779733642752812516880320348160\n",
    b"2 100 7\n0,0,6 99:+.5 3:7. 4:1E+2\t5:00.10\n3\n",
    b"0 1 1\n",
    b"",
    b"\xef\xbb\xbf1 1 1\n0\n",
    b"2147483647 2147483647 2147483647\n0 0:1\n",
    b"1 9999999999 3\n0 123456789012345678:1\n",
    b"1 20 20\n0 " + b" ".join(b"%d:%d.%d" % (i, i * 7919, i) for i in range(20)) + b"\n",
    b"1 3 3\n0:1 1:2\n",
    b"1 3 3\n0 1:nan\n",
    b"1 3 3\n0 1:inf 2:1e39\n",
    b"1 3 3\n0 1:1_0\n",
    b"1 3 3\n0 1:\xd9\xa1\n",
]
WORDS = [b"\n", b"\r\n", b" ", b"\t", b",", b":", b".", b"-", b"+", b"e", b"E-", b"0", b"00", b"1", b"9" * 8, b"9" * 17,
         b"1e38", b"1e39", b"4e-46", b"nan", b"inf", b"0x1", b"1_0", b"\x00", b"\xff", b"\xc2\xb2", b"0:1",
         b"0,1 "]  # fmt: skip
