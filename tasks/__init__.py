"""What is made of something given: sound for a picture, a picture for a sound, a longer clip, a clip from a picture.

And one side after the other, of which the first is given to the second. One task a file. Each fits and encodes what the
user gives, samples the rest, and leaves what was given as it is.
"""
