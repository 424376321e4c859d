"""Replay recorded or made-up arrivals under rules, and price what each of them would have done.

Pure: text and random numbers come in from outside. Times are seconds in floats, amounts dollars in floats, since
nobody is billed by them.
"""
